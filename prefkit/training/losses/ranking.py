"""Losses of a list of answers to one prompt, best first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefkit.training.losses import Logps, Targets, register_loss
from prefkit.training.losses.pairs import beta

if TYPE_CHECKING:
    from torch import Tensor


@register_loss(
    "plackett_luce",
    paper="Rafailov et al. 2023, arXiv 2305.18290",
    equation="20 (appendix A.3)",
    target="ranking",
    hard="a list says in which order, not how surely; give unsure lists a smaller weight",
    params={"beta": beta(0.1)},
)
def plackett_luce(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """−Σ_k log(exp r_k / Σ_{j ≥ k} exp r_j), r = βΔ, answers best first: (rows,).

    Answers with n_tokens = 0 are not there. A list of two is DPO on a pair.
    """
    import torch

    rewards = params["beta"] * logps.ratios()
    there = logps.n_tokens > 0
    # (rows, n, n): what stands at place k, and below it, competes for place k.
    size = rewards.shape[1]
    below = torch.ones(size, size, dtype=torch.bool, device=rewards.device).triu()
    rivals = below & there[:, None, :]
    # Not −∞: a place with no rival at all would give NaN gradients, masked or not.
    lowest = torch.finfo(rewards.dtype).min
    total = rewards[:, None, :].masked_fill(~rivals, lowest).logsumexp(dim=2)
    return (total - rewards).masked_fill(~there, 0).sum(dim=1)
