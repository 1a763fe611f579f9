"""Squared errors against a target log-ratio: IPO and SPPO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefkit.training.losses import Logps, Targets, register_loss
from prefkit.training.losses.pairs import MARGIN, beta, margins

if TYPE_CHECKING:
    from torch import Tensor

IPO = "Azar et al. 2023, arXiv 2310.12036"
SOFT_IPO = "the target is (2p − 1)/(2β); the gradient is that of labels drawn from p"


@register_loss(
    "ipo",
    paper=IPO,
    equation="17, with β for τ",
    soft=SOFT_IPO,
    divergences=True,
    stable=True,
    params={
        "beta": beta(0.1, "τ of the paper: the target difference is 1/(2β) nats"),
        "margin": MARGIN,
    },
)
def ipo(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """(δ − (2p − 1)/(2β))², δ the difference of scores summed over tokens: (rows,), nats²."""
    return _squared(logps.scores(), targets, params)


@register_loss(
    "ipo_mean",
    per_token=True,
    paper=IPO,
    equation="17 on scores per token, as TRL's loss_type='ipo' computes it",
    soft=SOFT_IPO,
    divergences=True,
    params={"beta": beta(0.1, "the target difference is 1/(2β) nats a token"), "margin": MARGIN},
)
def ipo_mean(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """``ipo`` of scores divided by each answer's length in tokens: (rows,)."""
    return _squared(logps.scores() / logps.n_tokens.clamp(min=1), targets, params)


def _squared(values: Tensor, targets: Targets, params: Mapping[str, float]) -> Tensor:
    delta = values[:, 0] - values[:, 1]
    aim = (2 * targets.p - 1) / (2 * params["beta"])
    # A margin moves βδ, as in the logistic losses.
    return (delta - aim - margins(targets, params) / params["beta"]) ** 2


@register_loss(
    "sppo",
    paper="Wu et al. 2024, arXiv 2405.00675",
    equation="4.7, with 1/β for η; TRL's sppo_hard is p = 1",
    soft="the paper's own: P(first answer wins) is p",
    params={"beta": beta(0.1, "1/η of the paper, whose experiments use 0.001")},
)
def sppo(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """(Δ_first − (p − ½)/β)² + (Δ_second + (p − ½)/β)², Δ the log-ratios: (rows,), nats²."""
    ratios = logps.ratios()
    aim = (targets.p - 0.5) / params["beta"]
    return (ratios[:, 0] - aim) ** 2 + (ratios[:, 1] + aim) ** 2
