"""How likely a model finds an answer: summed log-probabilities of its tokens, with gradient.

Only hidden states that predict an answer's token meet the language-model head, in chunks whose
logits are recomputed in the backward pass: logits of a whole batch never exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from prefkit.policy.template import TokenRow

# Logits held at once: 2**24 in fp32 are 64 MiB, about 340 tokens of a vocabulary of 49k.
CHUNK_LOGITS = 1 << 24


def completion_logps(model: Any, rows: Sequence[TokenRow], *, pad_id: int) -> Tensor:
    """log p(answer | prompt) of each row, summed over its tokens: (len(rows),) fp32, in nats.

    The end-of-turn token counts. Rows are padded on the right; neither padding nor the other rows
    of the batch change a row's value (up to rounding in the model's precision). Works on a plain
    and on a peft-wrapped causal model; gradients flow to whatever requires them.
    """
    causal = model.get_base_model() if hasattr(model, "peft_config") else model
    device = next(causal.parameters()).device
    ids, mask, positions, targets, row_of = _pack(rows, pad_id, device)
    hidden = backbone(causal)(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    # (N, H): one hidden state for each answer token, at the position before it.
    picked = hidden.reshape(-1, hidden.shape[-1])[positions]
    values = token_logps(causal, picked, targets)
    return torch.zeros(len(rows), dtype=torch.float32, device=device).index_add(0, row_of, values)


def _pack(
    rows: Sequence[TokenRow], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]:
    """ids (B, T), mask (B, T) or None, flat positions (N,), targets (N,), row index (N,).

    A row's last token is predicted but predicts nothing, so it is left out of ``ids``.
    """
    width = max(len(row.ids) for row in rows) - 1
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    positions: list[Tensor] = []
    targets: list[Tensor] = []
    for index, row in enumerate(rows):
        fed = len(row.ids) - 1
        ids[index, :fed] = torch.tensor(row.ids[:-1])
        mask[index, :fed] = 1
        positions.append(torch.arange(row.n_prompt - 1, fed) + index * width)
        targets.append(torch.tensor(row.ids[row.n_prompt :]))
    row_of = torch.repeat_interleave(
        torch.arange(len(rows)), torch.tensor([row.n_completion for row in rows])
    )
    # Without padding the causal kernel needs no mask.
    padded = None if bool(mask.all()) else mask.to(device)
    return (
        ids.to(device),
        padded,
        torch.cat(positions).to(device),
        torch.cat(targets).to(device),
        row_of.to(device),
    )


def backbone(causal: Any) -> Any:
    """The model without its head: token ids in, hidden states out."""
    return getattr(causal, causal.base_model_prefix)


def token_logps(causal: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """(N,) fp32 log-probabilities of ``targets`` given ``hidden`` (N, H), chunk by chunk."""
    head = causal.get_output_embeddings()
    scale, cap = _logit_finish(causal.config)
    size = max(1, CHUNK_LOGITS // head.weight.shape[0])

    def score(states: Tensor, wanted: Tensor) -> Tensor:
        logits = head(states).float() * scale
        if cap is not None:
            logits = torch.tanh(logits / cap) * cap
        chosen = logits.gather(1, wanted[:, None]).squeeze(1)
        return chosen - torch.logsumexp(logits, dim=1)

    chunks = zip(hidden.split(size), targets.split(size), strict=True)
    if torch.is_grad_enabled():
        return torch.cat([checkpoint(score, h, t, use_reentrant=False) for h, t in chunks])
    return torch.cat([score(h, t) for h, t in chunks])


def _logit_finish(config: Any) -> tuple[float, float | None]:
    """What some architectures do to logits after the head: a factor and a soft cap (or None)."""
    # Cohere multiplies, Granite divides, Falcon-H1 multiplies; Gemma 2 and 3 cap.
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    scale *= float(getattr(config, "lm_head_multiplier", None) or 1.0)
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return scale, None if cap is None else float(cap)
