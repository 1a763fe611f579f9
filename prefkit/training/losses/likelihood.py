"""Plain likelihood: SFT, and the NLL term that RPO adds to a preference loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefkit.training.losses import Logps, Targets, register_loss
from prefkit.training.losses.pairs import expected

if TYPE_CHECKING:
    from torch import Tensor


@register_loss(
    "sft",
    paper="Ouyang et al. 2022 (InstructGPT), arXiv 2203.02155",
    equation="maximum likelihood of demonstrations (section 3.5)",
    target="demonstration",
    also=("pair", "ranking"),
    hard="a demonstration is right; for a winner that is only probable take nll",
    needs_reference=False,
    per="token",
    stable=True,
)
def sft(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """−log π of the first answer (the second, where p = 0), summed over tokens: (rows,), in nats.

    A step divides by tokens: the mean over all tokens of the optimiser step, however it is split.
    """
    if logps.policy.shape[1] == 1:
        return -logps.policy[:, 0]
    return -logps.policy[:, 0].where(targets.p >= 0.5, logps.policy[:, 1])


@register_loss(
    "nll",
    per_token=True,
    paper="Pang et al. 2024 (iterative RPO), arXiv 2404.19733",
    equation="the NLL term: −log π(winner) / |winner|",
    also=("demonstration", "ranking"),
    soft="expected: that of an answer drawn from p",
    needs_reference=False,
    stable=True,
)
def nll(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """−log π of the winner, mean over its own tokens: (rows,), in nats a token.

    ``loss: {sigmoid: 1, nll: α}`` is RPO.
    """
    means = logps.means()
    if means.shape[1] == 1:
        return -means[:, 0]
    return expected(targets.p, -means[:, 0], -means[:, 1])
