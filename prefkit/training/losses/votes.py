"""The likelihood of the raw votes behind a pair, each rater with an error rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefkit.training.losses import Logps, Param, Targets, register_loss
from prefkit.training.losses.pairs import MARGIN, beta, cross_entropy, log_sigmoid, logit

if TYPE_CHECKING:
    from torch import Tensor


@register_loss(
    "votes",
    paper="Dawid & Skene 1979 (error rates of raters) with the preference model of DPO, "
    "arXiv 2305.18290",
    equation="likelihood of a vote: ε + (1 − 2ε)σ(βδ); DPO's eq. 7 at ε = 0 and one vote",
    soft="its labels are the votes; a row without votes is cross-entropy with its p",
    divergences=True,
    reads_votes=True,
    params={
        "beta": beta(0.1),
        "error": Param(0.1, "error rate of raters whose rate is not known", 0.0, 0.5),
        "margin": MARGIN,
    },
)
def votes(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """−Σ_a log[ε_a + (1 − 2ε_a)σ(s_a·βδ)] over the row's votes, s_a = ±1: (rows,), in nats.

    A vote that gives the first answer a share between 0 and 1 counts that much for either side. A
    row with many votes weighs more than one with few, as its likelihood does. A negative error
    rate is one that is not known and becomes ``error``.
    """
    z = logit(logps.scores(), targets, params)
    given = targets.votes
    if given is None:
        return cross_entropy(z, targets.p)
    error = given.error.masked_fill(given.error < 0, params["error"])
    first, second = _log_likelihood(z[:, None], error), _log_likelihood(-z[:, None], error)
    value = -(given.share * first + (1 - given.share) * second)
    value = value.masked_fill(~given.present, 0).sum(dim=1)
    none = ~given.present.any(dim=1)
    return value.where(~none, cross_entropy(z, targets.p))


def _log_likelihood(z: Tensor, error: Tensor) -> Tensor:
    """log[(1 − ε)σ(z) + ε·σ(−z)], which is log[ε + (1 − 2ε)σ(z)] without its cancellation."""
    import torch

    # ε = 0 makes one term −∞, which logaddexp takes, gradient included; both never are.
    return torch.logaddexp(
        (1 - error).log() + log_sigmoid(z),
        error.log() + log_sigmoid(-z),
    )
