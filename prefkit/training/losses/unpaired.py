"""Losses of one answer that is desirable or not: KTO, BCO, APO. p = P(desirable)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefkit.training.losses import Logps, Param, Targets, register_loss
from prefkit.training.losses.pairs import beta, expected, log_sigmoid

if TYPE_CHECKING:
    from torch import Tensor

EXPECTED = "expected under a label drawn from p = P(desirable)"
DESIRABLE = Param(1.0, "weight of desirable answers", 0.0, 1e3)
UNDESIRABLE = Param(1.0, "weight of undesirable answers", 0.0, 1e3)


@register_loss(
    "kto",
    paper="Ethayarajh et al. 2024, arXiv 2402.01306",
    equation="7 and 8",
    target="unpaired",
    soft=EXPECTED,
    couples_rows=True,
    needs_mismatch=True,
    stable=True,
    params={"beta": beta(0.1), "desirable": DESIRABLE, "undesirable": UNDESIRABLE},
)
def kto(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """λ_D(1 − σ(β(Δ − z0))) or λ_U(1 − σ(β(z0 − Δ))), Δ the answer's log-ratio: (rows,).

    Column 0 is the answer, column 1 an answer to another prompt. z0, the reference point, is the
    mean log-ratio of column 1 over the rows that have one, at least 0 and detached: call it with
    all rows of an optimiser step. Without any mismatched answer z0 is 0.
    """
    ratios = logps.ratios()
    z = params["beta"] * (ratios[:, 0] - _reference_point(ratios, logps.n_tokens))
    return expected(
        targets.p, params["desirable"] * (-z).sigmoid(), params["undesirable"] * z.sigmoid()
    )


def _reference_point(ratios: Tensor, n_tokens: Tensor) -> Tensor:
    there = (n_tokens[:, 1] > 0).to(ratios.dtype)
    total = (ratios[:, 1].detach() * there).sum()
    return (total / there.sum().clamp(min=1)).clamp(min=0)


@register_loss(
    "bco_unpaired",
    paper="Jung et al. 2024, arXiv 2404.04656",
    equation="the BCO loss with reward shift δ",
    target="unpaired",
    soft=EXPECTED,
    couples_rows=True,
    params={"beta": beta(0.1)},
)
def bco_unpaired(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """−log σ(r − δ) for a desirable, −log σ(δ − r) for an undesirable answer, r = βΔ: (rows,).

    δ = ½(mean reward of the desirable + mean reward of the undesirable), detached, over all rows
    of an optimiser step; where one kind is missing, the mean of the other. Departures: no moving
    average, and no density-ratio weights for a shift between the two kinds of prompt.
    """
    rewards = params["beta"] * logps.ratios()[:, 0]
    z = rewards - _reward_shift(rewards.detach(), targets.p)
    return expected(targets.p, -log_sigmoid(z), -log_sigmoid(-z))


def _reward_shift(rewards: Tensor, p: Tensor) -> Tensor:
    import torch

    good, bad = p.sum(), (1 - p).sum()
    tiny = torch.finfo(rewards.dtype).tiny
    mean_good = (p * rewards).sum() / good.clamp(min=tiny)
    mean_bad = ((1 - p) * rewards).sum() / bad.clamp(min=tiny)
    both = (good > 0) & (bad > 0)
    return torch.where(both, (mean_good + mean_bad) / 2, mean_good + mean_bad)


@register_loss(
    "apo_zero_unpaired",
    paper="D'Oosterlinck et al. 2024, arXiv 2408.06266",
    equation="7, one answer at a time",
    target="unpaired",
    soft=EXPECTED,
    params={"beta": beta(0.1), "desirable": DESIRABLE, "undesirable": UNDESIRABLE},
)
def apo_zero_unpaired(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """λ_D(1 − σ(βΔ)) or λ_U·σ(βΔ), Δ the answer's log-ratio: (rows,); KTO with z0 = 0."""
    z = params["beta"] * logps.ratios()[:, 0]
    return expected(
        targets.p, params["desirable"] * (-z).sigmoid(), params["undesirable"] * z.sigmoid()
    )
