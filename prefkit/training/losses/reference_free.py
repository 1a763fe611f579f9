"""Losses without a reference model: SimPO, CPO, ORPO."""

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
    margins,
)

if TYPE_CHECKING:
    from torch import Tensor


@register_loss(
    "simpo",
    per_token=True,
    paper="Meng et al. 2024, arXiv 2405.14734",
    equation="6",
    soft="expected under a label drawn from p: the winner leads by γ, whichever it is",
    needs_reference=False,
    stable=True,
    params={
        "beta": beta(2.0, "scale of the log-probability a token"),
        "gamma": Param(1.0, "lead the winner must have; γ/β of 0.3 to 0.55 is usual", 0.0, 1e3),
        "margin": MARGIN,
    },
)
def simpo(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """−log σ(β(mean log p_w − mean log p_l) − γ), means over tokens: (rows,)."""
    z = logit(logps.means(), targets, params)
    gamma = params["gamma"]
    return expected(targets.p, -log_sigmoid(z - gamma), -log_sigmoid(-z - gamma))


@register_loss(
    "cpo",
    paper="Xu et al. 2024, arXiv 2401.08417",
    equation="3 and the NLL term beside it",
    soft="cross-entropy with p; the NLL term is that of an answer drawn from p",
    needs_reference=False,
    params={
        "beta": beta(0.1, "scale of the log-probabilities"),
        "alpha": Param(1.0, "weight of the NLL of the winner", 0.0, 1e3),
        "margin": MARGIN,
    },
)
def cpo(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """−log σ(β(log p_w − log p_l)) + α·NLL(w), sums over tokens in the first term: (rows,).

    Departure: the NLL is the mean over the row's own tokens, where the paper sums them and TRL
    takes the mean over all tokens of a micro-batch, which depends on how a step is split.
    """
    contrast = cross_entropy(logit(logps.policy, targets, params), targets.p)
    nll = -logps.means()
    return contrast + params["alpha"] * expected(targets.p, nll[:, 0], nll[:, 1])


@register_loss(
    "orpo",
    per_token=True,
    paper="Hong et al. 2024, arXiv 2403.07691",
    equation="6 and 7",
    soft="cross-entropy with p; the NLL term is that of an answer drawn from p",
    needs_reference=False,
    stable=True,
    params={
        "beta": beta(0.1, "λ of the paper: weight of the odds-ratio term"),
        "margin": MARGIN,
    },
)
def orpo(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """NLL(w) − λ·log σ(log odds(w) − log odds(l)), odds = P/(1 − P), P the mean-token probability.

    Shape (rows,). Departure: the NLL is the mean over the tokens of the row's answer, where TRL
    takes prompt and answer of a whole micro-batch.
    """
    means = logps.means()
    odds = _log_odds(means)
    ratio = odds[:, 0] - odds[:, 1] - margins(targets, params)
    nll = expected(targets.p, -means[:, 0], -means[:, 1])
    return nll + params["beta"] * cross_entropy(ratio, targets.p)


def _log_odds(logp: Tensor) -> Tensor:
    """log(P / (1 − P)) for log P ≤ 0; P = 1 counts as the largest number below 1."""
    import torch

    logp = logp.clamp(max=-torch.finfo(logp.dtype).eps)
    # log(1 − e^x) by whichever of two forms keeps its digits; each sees only its own arguments,
    # so that no NaN of the other's reaches the gradient.
    near = logp > -0.6931
    small = torch.where(near, logp, torch.full_like(logp, -1.0))
    large = torch.where(near, torch.full_like(logp, -1.0), logp)
    return logp - torch.where(near, (-small.expm1()).log(), (-large.exp()).log1p())
