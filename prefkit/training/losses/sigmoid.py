"""Logistic losses of the difference of two answers: DPO and what was made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefkit.training.losses import Logps, Param, Targets, register_loss
from prefkit.training.losses.pairs import (
    MARGIN,
    beta,
    cross_entropy,
    expected,
    log_sigmoid,
    logit,
)

if TYPE_CHECKING:
    from torch import Tensor

DPO = "Rafailov et al. 2023, arXiv 2305.18290"


@register_loss(
    "sigmoid",
    paper=DPO,
    equation="7; with p for each row as in conservative DPO (Mitchell 2023)",
    soft="cross-entropy with p; least at βδ = logit p",
    divergences=True,
    stable=True,
    params={"beta": beta(0.1), "margin": MARGIN},
)
def sigmoid(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """−p·log σ(βδ) − (1 − p)·log σ(−βδ), δ = score of the first answer minus that of the second.

    Shape (rows,). ln 2 at δ = 0 whatever p; its optimum is βδ = logit p; p = 1 is eq. 7.
    """
    return cross_entropy(logit(logps.scores(), targets, params), targets.p)


@register_loss(
    "cdpo",
    paper='Mitchell 2023, "A note on DPO with noisy preferences"',
    equation="the conservative loss: eq. 7 of DPO with p = 1 − ε",
    soft="the label is flipped with probability ε first: p becomes (1 − ε)p + ε(1 − p)",
    divergences=True,
    params={
        "beta": beta(0.1),
        "epsilon": Param(0.1, "probability that a label is wrong", 0.0, 0.5),
        "margin": MARGIN,
    },
)
def cdpo(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """``sigmoid`` with every p drawn towards ½ by ε: (rows,); p = 1 becomes 1 − ε."""
    epsilon = params["epsilon"]
    p = (1 - epsilon) * targets.p + epsilon * (1 - targets.p)
    return cross_entropy(logit(logps.scores(), targets, params), p)


@register_loss(
    "sigmoid_norm",
    per_token=True,
    paper="Lambert et al. 2024 (Tülu 3), arXiv 2411.15124",
    equation="length-normalised DPO",
    soft="cross-entropy with p",
    divergences=True,
    params={"beta": beta(5.0, "strength per token: far larger than β of a sum"), "margin": MARGIN},
)
def sigmoid_norm(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """``sigmoid`` of scores divided by each answer's length in tokens: (rows,)."""
    means = logps.scores() / logps.n_tokens.clamp(min=1)
    return cross_entropy(logit(means, targets, params), targets.p)


@register_loss(
    "robust",
    paper="Chowdhury et al. 2024 (rDPO), arXiv 2403.00409",
    equation="the unbiased estimate of the clean loss under flips of known rate ε",
    soft="expected: the estimate is linear in p",
    divergences=True,
    stable=True,
    params={
        "beta": beta(0.1),
        "epsilon": Param(0.1, "known rate of flipped labels", 0.0, 0.499),
        "margin": MARGIN,
    },
)
def robust(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """[(1 − ε)ℓ(βδ) − ε·ℓ(−βδ)] / (1 − 2ε), ℓ = −log σ: (rows,).

    Averaged over labels flipped with probability ε it is the loss of the clean labels. It can be
    negative and has no least value for a row with p < ε or p > 1 − ε. ε = 0 is ``sigmoid``.
    """
    epsilon = params["epsilon"]
    # Cross-entropy with the p that would be observed as targets.p after flips at rate ε.
    p = (targets.p - epsilon) / (1 - 2 * epsilon)
    return cross_entropy(logit(logps.scores(), targets, params), p)


@register_loss(
    "gdpo",
    paper="Furuta et al. 2024, arXiv 2409.06691",
    equation="geometric-averaged DPO",
    soft="the paper's own: p scales the logit by 2p − 1",
    divergences=True,
    params={"beta": beta(0.1)},
)
def gdpo(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """−log σ((2p − 1)βδ): (rows,); a row with p = ½ has no gradient, p = 1 is DPO.

    Unlike ``sigmoid`` it has no finite optimum: p sets the size of a row's pull, not its end.
    """
    scores = logps.scores()
    delta = scores[:, 0] - scores[:, 1]
    return -log_sigmoid((2 * targets.p - 1) * params["beta"] * delta)


@register_loss(
    "odpo",
    paper="Amini et al. 2024, arXiv 2402.10571",
    equation="DPO with an offset Δ_r = margin · (the row's margin)",
    soft="cross-entropy with p; least at βδ = offset + logit p",
    divergences=True,
    params={
        "beta": beta(0.1),
        "margin": Param(1.0, "the paper's α: the row's margin times it is the offset", 0.0, 1e3),
    },
)
def odpo(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """−log σ(βδ − α·m), m the row's margin: (rows,); soft in p.

    Departure: the paper's offset is α·f(difference of scores) with f increasing (a logarithm in
    its experiments); here f is whoever wrote the margin's business.
    """
    return cross_entropy(logit(logps.scores(), targets, params), targets.p)


@register_loss(
    "rdpo",
    paper="Park et al. 2024 (R-DPO), arXiv 2403.19159",
    equation="DPO under a penalty of α for every token of the answer",
    soft="cross-entropy with p",
    divergences=True,
    params={
        "beta": beta(0.1),
        "alpha": Param(0.01, "penalty of a token, in units of reward", 0.0, 10.0),
        "margin": MARGIN,
    },
)
def rdpo(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """−log σ(βδ + α(|first| − |second|)), lengths in tokens: (rows,); soft in p.

    The sign follows from maximising reward − α·tokens − β·KL: a longer winner has earned part of
    its lead by its length, so less of it is left for δ. α = 0 is ``sigmoid``.
    """
    lengths = logps.n_tokens.to(logps.policy.dtype)
    longer = lengths[:, 0] - lengths[:, 1]
    return cross_entropy(
        logit(logps.scores(), targets, params) + params["alpha"] * longer, targets.p
    )


@register_loss(
    "dpop",
    paper="Pal et al. 2024 (Smaug), arXiv 2402.13228",
    equation="3",
    soft="expected under a label drawn from p",
    params={
        "beta": beta(0.1),
        "penalty": Param(5.0, "λ: cost of a winner less likely than under the reference", 0.0, 1e3),
        "margin": MARGIN,
    },
)
def dpop(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """−log σ(β(δ − λ·max(0, −Δ_winner))), Δ the winner's log-ratio: (rows,). λ = 0 is DPO."""
    ratios = logps.ratios()
    z = logit(ratios, targets, params)
    cost = params["beta"] * params["penalty"] * (-ratios).relu()
    return expected(targets.p, -log_sigmoid(z - cost[:, 0]), -log_sigmoid(-z - cost[:, 1]))
