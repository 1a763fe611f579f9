"""Both answers of a pair in one row: the prompt is computed once, each answer sees only itself.

A row is prompt, chosen, rejected; a mask hides chosen from rejected, and rejected's positions
start where the prompt ends. The same sums as two rows, with one prompt's work less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from prefkit.policy.logps import backbone, completion_logps, token_logps
from prefkit.policy.template import TokenRow

# Full attention in every layer and rotary positions: a mask and positions say all there is.
ARCHITECTURES = ("llama", "qwen2", "qwen3")


def pair_logps(model: Any, pairs: Sequence[tuple[TokenRow, TokenRow]], *, pad_id: int) -> Tensor:
    """Summed log-probs of both answers of each pair: (len(pairs), 2) fp32, in nats.

    Falls back to a row an answer where the architecture is not known to allow sharing or a pair's
    prompts differ.
    """
    causal = model.get_base_model() if hasattr(model, "peft_config") else model
    if not (_shares(causal.config) and all(_same_prompt(*pair) for pair in pairs)):
        rows = [chosen for chosen, _ in pairs] + [rejected for _, rejected in pairs]
        return completion_logps(model, rows, pad_id=pad_id).view(2, len(pairs)).T
    device = next(causal.parameters()).device
    ids, positions, mask = _pack(pairs, pad_id)
    hidden = backbone(causal)(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        position_ids=positions.to(device),
        use_cache=False,
    ).last_hidden_state
    where, targets, answer_of = _predicted(pairs, ids.shape[1])
    picked = hidden.reshape(-1, hidden.shape[-1])[where.to(device)]
    sums = torch.zeros(2 * len(pairs), dtype=torch.float32, device=device)
    values = token_logps(causal, picked, targets.to(device))
    return sums.index_add(0, answer_of.to(device), values).view(len(pairs), 2)


def _shares(config: Any) -> bool:
    sliding = getattr(config, "use_sliding_window", False)
    sdpa = config._attn_implementation == "sdpa"
    return config.model_type in ARCHITECTURES and not sliding and sdpa


def _same_prompt(chosen: TokenRow, rejected: TokenRow) -> bool:
    n = chosen.n_prompt
    return n == rejected.n_prompt and chosen.ids[:n] == rejected.ids[:n]


def _pack(pairs: Sequence[tuple[TokenRow, TokenRow]], pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """ids and positions (B, T), mask (B, 1, T, T) with True where a query may look.

    The last token of an answer predicts nothing and is left out.
    """
    width = max(len(c.ids) + len(r.ids) - r.n_prompt - 2 for c, r in pairs)
    ids = torch.full((len(pairs), width), pad_id, dtype=torch.long)
    positions = torch.zeros((len(pairs), width), dtype=torch.long)
    mask = torch.ones((width, width), dtype=torch.bool).tril().repeat(len(pairs), 1, 1, 1)
    for index, (chosen, rejected) in enumerate(pairs):
        prompt, first = chosen.n_prompt, len(chosen.ids) - 1
        end = first + rejected.n_completion - 1
        ids[index, :first] = torch.tensor(chosen.ids[:-1])
        ids[index, first:end] = torch.tensor(rejected.ids[prompt:-1])
        positions[index, :first] = torch.arange(first)
        positions[index, first:end] = torch.arange(prompt, prompt + end - first)
        mask[index, 0, first:end, prompt:first] = False
    return ids, positions, mask


def _predicted(
    pairs: Sequence[tuple[TokenRow, TokenRow]], width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Flat positions (N,), the tokens they predict (N,), and which answer each belongs to (N,)."""
    where: list[int] = []
    targets: list[int] = []
    answer_of: list[int] = []
    for index, (chosen, rejected) in enumerate(pairs):
        base, prompt, first = index * width, chosen.n_prompt, len(chosen.ids) - 1
        # The prompt's last token predicts the first token of either answer.
        where += [base + at for at in range(prompt - 1, first)]
        where += [base + prompt - 1]
        where += [base + at for at in range(first, first + rejected.n_completion - 1)]
        targets += [*chosen.ids[prompt:], *rejected.ids[prompt:]]
        answer_of += [2 * index] * chosen.n_completion + [2 * index + 1] * rejected.n_completion
    return torch.tensor(where), torch.tensor(targets), torch.tensor(answer_of)
