"""Alignment of whole distributions: AOT sorts the step's log-ratios before it compares them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefkit.training.losses import Logps, Param, Targets, register_loss
from prefkit.training.losses.pairs import beta, cross_entropy

if TYPE_CHECKING:
    from torch import Tensor

AOT = "Melnyk et al. 2024, arXiv 2406.05882"
NO_SOFT_FORM = (
    "rows are compared by rank within the step, so that a p that belongs to one row would be "
    "applied to another; draw or round labels first, or smooth all of them by epsilon"
)
PARAMS = {
    "beta": beta(0.1),
    "epsilon": Param(0.0, "probability that a label is wrong", 0.0, 0.5),
}


@register_loss(
    "aot",
    paper=AOT,
    equation="paired: stochastic dominance of the policy's margins, logistic violation",
    hard=NO_SOFT_FORM,
    couples_rows=True,
    params=PARAMS,
)
def aot(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """The k-th smallest margin of the policy against the k-th smallest of the reference: (rows,).

    A margin is log π(w) − log π(l); the value of rank k stands in the row whose policy margin has
    that rank. Call it with all rows of an optimiser step.
    """
    policy = _oriented(logps.policy, targets)
    base = _oriented(logps.base(), targets)
    return _dominance(policy[:, 0] - policy[:, 1], base[:, 0] - base[:, 1], params)


@register_loss(
    "aot_unpaired",
    paper=AOT,
    equation="unpaired: winners' log-ratios dominate losers', logistic violation",
    hard=NO_SOFT_FORM,
    couples_rows=True,
    params=PARAMS,
)
def aot_unpaired(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """The k-th smallest log-ratio of winners against the k-th smallest of losers: (rows,).

    The value of rank k stands in the row whose winner has that rank. Call it with all rows of an
    optimiser step.
    """
    ratios = _oriented(logps.ratios(), targets)
    return _dominance(ratios[:, 0], ratios[:, 1], params)


def _oriented(values: Tensor, targets: Targets) -> Tensor:
    """``values`` (rows, 2) with the winner in column 0."""
    import torch

    return torch.where((targets.p >= 0.5)[:, None], values, values.flip(1))


def _dominance(above: Tensor, below: Tensor, params: Mapping[str, float]) -> Tensor:
    import torch

    ranked, order = above.sort(stable=True)
    delta = ranked - below.sort().values
    value = cross_entropy(params["beta"] * delta, torch.full_like(delta, 1 - params["epsilon"]))
    return value[order.argsort()]
