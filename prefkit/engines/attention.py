"""One-token attention that reads grouped keys and values where they lie.

transformers repeats the keys and values of grouped-query attention (arXiv 2305.13245) for every
query head before it calls the kernel: with a mask, each step copies the whole cache several times.
A single new token needs no copy: the queries of one group are stacked as if they were positions.
Seen on two cores with SmolLM2-135M at 64 rows: 206 → 303 tokens/s.
"""

from __future__ import annotations

from typing import Any

NAME = "prefkit_grouped"


def use_grouped_attention(model: Any) -> None:
    """Switch ``model`` to grouped one-token attention if it runs PyTorch's SDPA now."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
    from transformers.modeling_utils import AttentionInterface

    if model.config._attn_implementation != "sdpa":
        return

    def forward(
        module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any
    ) -> tuple[Any, None]:
        if not _is_plain(query, key, attention_mask, options):
            return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return grouped_step(query, key, value, attention_mask, options.get("scaling")), None

    AttentionInterface.register(NAME, forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def _is_plain(query: Any, key: Any, mask: Any, options: dict[str, Any]) -> bool:
    """One query position, fewer key than query heads, a mask, and nothing the kernel lacks."""
    return (
        query.shape[2] == 1
        and key.shape[1] < query.shape[1]
        and mask is not None
        and options.get("position_bias") is None
        and options.get("s_aux") is None
    )


def grouped_step(query: Any, key: Any, value: Any, mask: Any, scale: float | None) -> Any:
    """Attention of query (B, H, 1, D) over key and value (B, G, W, D): (B, 1, H, D).

    mask: (B, 1, 1, W), true where a column may be read. H is a multiple of G; head h reads group
    h // (H / G), as transformers lays them out.
    """
    from torch.nn.functional import scaled_dot_product_attention

    batch, heads, _, width = query.shape
    groups = key.shape[1]
    stacked = query.reshape(batch, groups, heads // groups, width)
    out = scaled_dot_product_attention(stacked, key, value, attn_mask=mask, scale=scale)
    return out.reshape(batch, 1, heads, value.shape[-1])
