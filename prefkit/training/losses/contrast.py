"""Losses of the difference of two answers that are not logistic: hinge, EXO, DiscoPOP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefkit.training.losses import Logps, Param, Targets, register_loss
from prefkit.training.losses.pairs import MARGIN, beta, expected, log_sigmoid, logit

if TYPE_CHECKING:
    from torch import Tensor


@register_loss(
    "hinge",
    paper="Liu et al. 2023 (RSO), arXiv 2309.06657; Zhao et al. 2023 (SLiC-HF), arXiv 2305.10425",
    equation="hinge on the log-ratio (RSO); SLiC's own has no reference",
    soft="expected under a label drawn from p",
    divergences=True,
    params={"beta": beta(0.1), "margin": MARGIN},
)
def hinge(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """max(0, 1 − βδ): (rows,); soft in p."""
    z = logit(logps.scores(), targets, params)
    return expected(targets.p, (1 - z).relu(), (1 + z).relu())


@register_loss(
    "exo",
    paper="Ji et al. 2024, arXiv 2402.00856",
    equation="16 (EXO-pref, K = 2)",
    soft="the target distribution is (1 − ε)p + ε(1 − p); least where σ(βδ) equals it",
    divergences=True,
    params={
        "beta": beta(0.1),
        "epsilon": Param(1e-3, "smoothing; without it the KL would be infinite", 1e-9, 0.5),
        "margin": MARGIN,
    },
)
def exo(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """KL(q ‖ target) of two-point distributions, q = σ(βδ): (rows,), in nats.

    The reverse of ``sigmoid``'s KL: an answer the policy gives up costs little. With p = 1 the
    target is (1 − ε, ε) as in the paper.
    """
    epsilon = params["epsilon"]
    target = (1 - epsilon) * targets.p + epsilon * (1 - targets.p)
    z = logit(logps.scores(), targets, params)
    first = z.sigmoid() * (log_sigmoid(z) - target.log())
    return first + (-z).sigmoid() * (log_sigmoid(-z) - (1 - target).log())


@register_loss(
    "discopop",
    paper="Lu et al. 2024, arXiv 2406.08414",
    equation="5 (log-ratio modulated loss)",
    soft="expected under a label drawn from p",
    divergences=True,
    params={
        "beta": beta(0.1),
        "tau": Param(0.05, "temperature of the blend", 1e-3, 0.99),
        "margin": MARGIN,
    },
)
def discopop(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """(1 − w)·(−log σ(βδ)) + w·exp(−βδ), w = σ(βδ/τ): (rows,); soft in p. Not convex."""
    z = logit(logps.scores(), targets, params)
    tau = params["tau"]
    return expected(targets.p, _log_ratio_modulated(z, tau), _log_ratio_modulated(-z, tau))


def _log_ratio_modulated(z: Tensor, tau: float) -> Tensor:
    # As one exponent the product w·exp(−z) cannot be 0·∞ where z is far below zero.
    exponential = (log_sigmoid(z / tau) - z).exp()
    return (-z / tau).sigmoid() * -log_sigmoid(z) + exponential
