"""What the losses of two answers share: the logit of a difference and two soft forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefkit.training.losses import Param, Targets

if TYPE_CHECKING:
    from torch import Tensor

# Votes aggregated by prefkit carry margin = logit p, which p already says: it is left unread
# unless asked for, so that no row's strength counts twice.
MARGIN = Param(0.0, "how much of a row's margin is taken off the logit; 1 takes all", 0.0, 1e3)


def beta(default: float, about: str = "strength of the pull towards the reference") -> Param:
    """The parameter β > 0 with this default."""
    return Param(default, about, 1e-6, 1e3)


def log_sigmoid(value: Tensor) -> Tensor:
    """log σ(value), elementwise, exact to rounding for any size of ``value``."""
    from torch.nn.functional import logsigmoid

    return logsigmoid(value)


def margins(targets: Targets, params: Mapping[str, float]) -> Tensor | float:
    """What is taken off each row's logit: (rows,), or 0 where margins are absent or unread."""
    scale = params["margin"]
    return 0.0 if targets.margin is None or scale == 0 else scale * targets.margin


def logit(values: Tensor, targets: Targets, params: Mapping[str, float]) -> Tensor:
    """β(first − second) − margin of ``values`` (rows, 2): (rows,)."""
    return params["beta"] * (values[:, 0] - values[:, 1]) - margins(targets, params)


def cross_entropy(z: Tensor, p: Tensor) -> Tensor:
    """−p·log σ(z) − (1 − p)·log σ(−z): (rows,), least where z = log(p / (1 − p))."""
    return -p * log_sigmoid(z) - (1 - p) * log_sigmoid(-z)


def expected(p: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The mean of a hard loss under a label drawn from p: (rows,).

    first, second: the hard loss if the first, or the second, answer is the winner. This is the
    soft form of every loss whose paper has none: training on labels drawn afresh from p each time
    has the same gradient on average.
    """
    return p * first + (1 - p) * second
