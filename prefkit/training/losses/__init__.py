"""Preference losses: pure functions of log-probabilities, found by name.

A loss is ``(logps, targets, *, params) -> Tensor (rows,)``: one value a row, before weights and
means, which are the loop's business. It is registered with where it comes from and what it needs;
the law tests enrol every registered loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from prefkit.core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

TargetKind = Literal["pair", "unpaired", "ranking", "demonstration"]


@dataclass(frozen=True, slots=True)
class Logps:
    """What the models say of each row's answers; a pair has n = 2, chosen first.

    policy, reference: (rows, n) fp32, log p(answer | prompt) summed over the answer's tokens, in
    nats; reference is None where the loss needs none. n_tokens: (rows, n), the tokens summed.
    """

    policy: Tensor
    reference: Tensor | None
    n_tokens: Tensor

    def ratios(self) -> Tensor:
        """log π(answer) − log π_ref(answer): (rows, n)."""
        if self.reference is None:
            raise ValueError("this loss was registered without needs_reference")
        return self.policy - self.reference


@dataclass(frozen=True, slots=True)
class Targets:
    """What the labels say. p: (rows,) in [0, 1], P(first answer wins). margin: (rows,) with its
    sign towards the first answer, or None where the data has none."""

    p: Tensor
    margin: Tensor | None = None


class LossFunction(Protocol):
    """The signature every loss has."""

    def __call__(
        self, logps: Logps, targets: Targets, *, params: Mapping[str, float]
    ) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Loss:
    """A registered loss. soft: it reads any p in [0, 1]; a hard one gets no rows with p = 0.5.
    couples_rows: a row's value depends on the other rows of its batch. params: its keys with
    their defaults."""

    name: str
    function: LossFunction
    paper: str
    equation: str
    target: TargetKind
    needs_reference: bool
    soft: bool
    couples_rows: bool
    params: Mapping[str, float]


losses: Registry[Loss] = Registry("loss", "prefkit.losses")


def register_loss(
    name: str,
    *,
    paper: str,
    equation: str,
    target: TargetKind = "pair",
    needs_reference: bool = True,
    soft: bool = False,
    couples_rows: bool = False,
    params: Mapping[str, float] | None = None,
) -> Callable[[LossFunction], LossFunction]:
    """Register the decorated function under ``name``; the function itself stays as it is."""

    def register(function: LossFunction) -> LossFunction:
        losses.add(
            name,
            Loss(
                name,
                function,
                paper,
                equation,
                target,
                needs_reference,
                soft,
                couples_rows,
                dict(params or {}),
            ),
        )
        return function

    return register


# Registration happens on import; the modules import torch only when a loss is computed.
from prefkit.training.losses import sigmoid as sigmoid  # noqa: E402
