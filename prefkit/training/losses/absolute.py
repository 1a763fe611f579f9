"""Pair losses that hold each answer against its own reference: NCA, BCO, APO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefkit.training.losses import Logps, Param, Targets, register_loss
from prefkit.training.losses.pairs import beta, expected, log_sigmoid

if TYPE_CHECKING:
    from torch import Tensor

APO = "D'Oosterlinck et al. 2024, arXiv 2408.06266"
EXPECTED = "expected under a label drawn from p"


@register_loss(
    "nca",
    paper="Chen et al. 2024, arXiv 2402.05369",
    equation="NCA for pairs (K = 2)",
    soft=EXPECTED,
    params={"beta": beta(0.1)},
)
def nca(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """−log σ(βΔ_w) − ½·log σ(−βΔ_w) − ½·log σ(−βΔ_l), Δ the log-ratios: (rows,)."""
    rewards = params["beta"] * logps.ratios()
    # What both answers pay does not depend on which of them won.
    both = -0.5 * log_sigmoid(-rewards).sum(dim=1)
    won = -log_sigmoid(rewards)
    return expected(targets.p, won[:, 0], won[:, 1]) + both


@register_loss(
    "bco",
    paper="Jung et al. 2024, arXiv 2404.04656",
    equation="the BCO loss with reward shift δ, on pairs",
    soft=EXPECTED,
    couples_rows=True,
    params={
        "beta": beta(0.1),
        "shift": Param(1.0, "how much of δ is taken off; 0 is TRL's bco_pair", 0.0, 1.0),
    },
)
def bco(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """−log σ(r_w − δ) − log σ(−(r_l − δ)), r = βΔ, δ the mean reward of the step: (rows,).

    Call it with all rows of an optimiser step. δ = ½(E[r_w] + E[r_l]) is detached. Departure: the
    paper keeps a moving average over steps; this one has no state, so a resumed run is the same.
    """
    rewards = params["beta"] * logps.ratios()
    # Winners and losers are equally many whatever p says, so δ is the mean over both.
    rewards = rewards - params["shift"] * rewards.detach().mean()
    won, lost = -log_sigmoid(rewards), -log_sigmoid(-rewards)
    return expected(targets.p, won[:, 0] + lost[:, 1], won[:, 1] + lost[:, 0])


@register_loss(
    "apo_zero",
    paper=APO,
    equation="7",
    soft=EXPECTED,
    params={"beta": beta(0.1)},
)
def apo_zero(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """1 − σ(βΔ_w) + σ(βΔ_l): (rows,), in [0, 2]; winners rise, losers fall."""
    value = (params["beta"] * logps.ratios()).sigmoid()
    gap = value[:, 0] - value[:, 1]
    return expected(targets.p, 1 - gap, 1 + gap)


@register_loss(
    "apo_down",
    paper=APO,
    equation="8",
    soft=EXPECTED,
    params={"beta": beta(0.1)},
)
def apo_down(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """σ(βΔ_w) + 1 − σ(β(Δ_w − Δ_l)): (rows,), in [0, 2]; both fall, losers further."""
    rewards = params["beta"] * logps.ratios()
    value, z = rewards.sigmoid(), rewards[:, 0] - rewards[:, 1]
    # 1 − σ(z) = σ(−z)
    return expected(targets.p, value[:, 0] + (-z).sigmoid(), value[:, 1] + z.sigmoid())
