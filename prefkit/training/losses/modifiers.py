"""What can be done to any loss before it is computed: WPO weights and LD-DPO sums."""

from __future__ import annotations

import torch
from torch import Tensor


def wpo_weights(values: Tensor, log_p2: Tensor, answer: Tensor, n_answers: int) -> Tensor:
    """How likely each answer is under the policy, per token: (n_answers,), > 0, no gradient.

    Zhou et al. 2024 (WPO), arXiv 2406.11827, eq. 2 with sampled alignment: the exponential of the
    mean over tokens of log π(token) − log Σ_v π(v)². A row's weight is the product over its
    answers; it multiplies the loss and not the denominator. values, log_p2: (N,) of scored tokens;
    answer: (N,) long, the answer of each. An answer without tokens weighs 1.
    """
    aligned = values.detach() - log_p2.detach()
    total = aligned.new_zeros(n_answers).index_add(0, answer, aligned)
    return (total / lengths(answer, n_answers).clamp(min=1)).exp()


def ld_dpo_sums(
    values: Tensor, answer: Tensor, row_of: Tensor, n_rows: int, *, alpha: float
) -> Tensor:
    """log π of each answer with the tokens past its rivals' length counted α: (n_answers,).

    Liu et al. 2024 (LD-DPO), arXiv 2409.06411: of a row's answers the shortest sets the length up
    to which tokens count in full; α = 1 is the plain sum, 0 leaves the tail out. values, answer:
    (N,), ordered by answer and position; row_of: (n_answers,) long, the row of each answer. Give
    policy and reference alike to it, as TRL does (LLaMA-Factory: the policy only).
    """
    n_answers = len(row_of)
    count = lengths(answer, n_answers)
    # An answer that is not there does not shorten its rivals.
    longest = torch.iinfo(torch.long).max
    there = count.masked_fill(count == 0, longest)
    shortest = torch.full((n_rows,), longest, device=values.device)
    shortest = shortest.scatter_reduce(0, row_of, there, "amin")
    starts = count.cumsum(0) - count
    place = torch.arange(len(answer), device=values.device) - starts[answer]
    in_full = place < shortest[row_of[answer]]
    counted = values * torch.where(in_full, 1.0, alpha).to(values.dtype)
    return values.new_zeros(n_answers).index_add(0, answer, counted)


def lengths(answer: Tensor, n_answers: int) -> Tensor:
    """Scored tokens of each answer: (n_answers,) long; unlike bincount it waits for no device."""
    ones = torch.ones_like(answer)
    return torch.zeros(n_answers, dtype=torch.long, device=answer.device).index_add(0, answer, ones)
