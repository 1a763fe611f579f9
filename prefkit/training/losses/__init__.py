"""Preference losses: pure functions of log-probabilities, found by name.

A loss is ``(logps, targets, *, params) -> Tensor (rows,)``: one value a row, before weights and
means, which are the loop's business. It is registered with where it comes from and what it needs;
the law tests enrol every registered loss. The families:

    sigmoid.py         logistic losses of the difference of two answers
    contrast.py        other functions of that difference: hinge, EXO, DiscoPOP
    regression.py      squared errors: IPO, SPPO
    absolute.py        each answer against its own reference: NCA, BCO, APO
    transport.py       sorted differences of a whole step: AOT
    reference_free.py  SimPO, CPO, ORPO
    unpaired.py        one answer, good or bad: KTO, BCO, APO
    ranking.py         lists, best first: Plackett-Luce
    votes.py           raw votes with the error rates of their raters
    likelihood.py      SFT and the NLL term of RPO
    reward.py          Bradley-Terry reward model
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from prefkit.core.errors import ConfigError
from prefkit.core.registry import Registry, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

TargetKind = Literal["pair", "unpaired", "ranking", "demonstration"]
Divergence = Literal["reverse_kl", "forward_kl", "js", "alpha"]


@dataclass(frozen=True, slots=True)
class Logps:
    """What the models say of each row's n answers; a pair has n = 2, chosen first.

    policy, reference: (rows, n) fp32 or fp64, log p(answer | prompt) summed over the answer's
    scored tokens, in nats; reference is None where the loss needs none. n_tokens: (rows, n), the
    tokens summed; 0 marks an answer that is not there (lists of unequal length). divergence: the
    f-divergence whose derivative turns ratios into scores, divergence_alpha its order if "alpha".
    """

    policy: Tensor
    reference: Tensor | None
    n_tokens: Tensor
    divergence: Divergence = "reverse_kl"
    divergence_alpha: float = 0.5

    def ratios(self) -> Tensor:
        """log π(answer) − log π_ref(answer): (rows, n), in nats."""
        return self.policy - self.base()

    def base(self) -> Tensor:
        """log π_ref of the answers: (rows, n), in nats."""
        if self.reference is None:
            raise ValueError("this loss was registered without needs_reference")
        return self.reference

    def scores(self) -> Tensor:
        """f′(π/π_ref) of the chosen divergence: (rows, n); the ratios themselves for reverse KL."""
        from prefkit.training.losses.divergences import scores

        return scores(self.ratios(), self.divergence, self.divergence_alpha)

    def means(self) -> Tensor:
        """log π(answer) a token: (rows, n), in nats; 0 where there is no answer."""
        return self.policy / self.n_tokens.clamp(min=1)


@dataclass(frozen=True, slots=True)
class Votes:
    """The raw votes behind each row, padded to m a row.

    share: (rows, m) in [0, 1], what the vote gives to the first answer (1, 0, or ½ for a tie).
    error: (rows, m), the rater's probability of saying the opposite, in [0, 1]; a negative number
    where it is not known. present: (rows, m) bool, False on padding.
    """

    share: Tensor
    error: Tensor
    present: Tensor


@dataclass(frozen=True, slots=True)
class Targets:
    """What the labels say of each row.

    p: (rows,) in [0, 1], P(first answer wins); for unpaired rows P(the answer is desirable); 1 for
    rankings and demonstrations. margin: (rows,) with its sign towards the first answer, 0 for rows
    without one, or None where no row has one. votes: the raw votes, or None where there are none.
    """

    p: Tensor
    margin: Tensor | None = None
    votes: Votes | None = None


class LossFunction(Protocol):
    """The signature every loss has; ``params`` is complete, as ``Loss.resolve`` returns it."""

    def __call__(
        self, logps: Logps, targets: Targets, *, params: Mapping[str, float]
    ) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Param:
    """A number a loss takes: its default, what it is, and its range (both ends belong to it)."""

    default: float
    about: str
    low: float = -math.inf
    high: float = math.inf

    @property
    def range(self) -> str:
        """The range as text: "0 … 1", "≥ 0", "any"."""
        if math.isinf(self.low) and math.isinf(self.high):
            return "any"
        if math.isinf(self.high):
            return f"≥ {self.low:g}"
        if math.isinf(self.low):
            return f"≤ {self.high:g}"
        return f"{self.low:g} … {self.high:g}"


@dataclass(frozen=True, slots=True)
class Loss:
    """A registered loss.

    target: the rows it is made for, ``also`` those it takes as well. soft: what it does with a p
    between 0 and 1; hard: why it takes none (exactly one of the two is a text). couples_rows: a
    row's value depends on the other rows of the optimiser step, so it is called once with all of
    them. per: the denominator of a step, Σ w over rows or Σ w·n_tokens of first answers.
    divergences: it reads ``scores()``, so f-divergences apply. needs_mismatch: column 1 is an
    answer to another row's prompt. rewards: ``Logps.policy`` holds rewards, not log-probs.
    reads_votes: it reads ``Targets.votes``. per_token: it divides log-ratios by their tokens, so
    an answer's reward is a mean. stable: its parameters keep their meaning; the others are there
    for reference and may change. params: the numbers it takes.
    """

    name: str
    function: LossFunction
    paper: str
    equation: str
    target: TargetKind
    also: tuple[TargetKind, ...] = ()
    soft: str | None = None
    hard: str | None = None
    needs_reference: bool = True
    couples_rows: bool = False
    per: Literal["row", "token"] = "row"
    divergences: bool = False
    needs_mismatch: bool = False
    rewards: bool = False
    reads_votes: bool = False
    per_token: bool = False
    stable: bool = False
    params: Mapping[str, Param] = field(default_factory=dict)

    @property
    def targets(self) -> tuple[TargetKind, ...]:
        """Every kind of row it takes."""
        return (self.target, *self.also)

    @property
    def reads_margin(self) -> bool:
        """Whether a row's margin can matter: it does where the parameter ``margin`` is not 0."""
        return "margin" in self.params

    def defaults(self) -> dict[str, float]:
        """Its parameters at their defaults."""
        return {key: param.default for key, param in self.params.items()}

    def resolve(self, given: Mapping[str, float]) -> dict[str, float]:
        """Its parameters: ``given`` over the defaults.

        Raises ConfigError for a parameter it does not take and for a value outside its range, all
        faults in one message.
        """
        faults: list[str] = []
        for key, value in given.items():
            param = self.params.get(key)
            if param is None:
                near = did_you_mean(key, list(self.params))
                faults.append(f"loss {self.name!r} takes no parameter {key!r}{near}")
            elif not (math.isfinite(value) and param.low <= value <= param.high):
                faults.append(
                    f"loss {self.name!r}: {key} is {value}; expected a number, {param.range}"
                )
        if faults:
            takes = ", ".join(f"{key} ({param.range})" for key, param in self.params.items())
            raise ConfigError("\n".join(faults), hint=f"{self.name} takes {takes or 'none'}")
        return {**self.defaults(), **given}


losses: Registry[Loss] = Registry("loss", "prefkit.losses")


def register_loss(
    name: str,
    *,
    paper: str,
    equation: str,
    target: TargetKind = "pair",
    also: tuple[TargetKind, ...] = (),
    soft: str | None = None,
    hard: str | None = None,
    needs_reference: bool = True,
    couples_rows: bool = False,
    per: Literal["row", "token"] = "row",
    divergences: bool = False,
    needs_mismatch: bool = False,
    rewards: bool = False,
    reads_votes: bool = False,
    per_token: bool = False,
    stable: bool = False,
    params: Mapping[str, Param] | None = None,
) -> Callable[[LossFunction], LossFunction]:
    """Register the decorated function under ``name``; the function itself stays as it is.

    The facts are those of Loss. Raises ConfigError for a name that is taken and ValueError unless
    exactly one of ``soft`` and ``hard`` says what becomes of a p between 0 and 1.
    """
    if (soft is None) == (hard is None):
        raise ValueError(f"loss {name!r}: give either soft= or hard=")

    def register(function: LossFunction) -> LossFunction:
        losses.add(
            name,
            Loss(
                name=name,
                function=function,
                paper=paper,
                equation=equation,
                target=target,
                also=also,
                soft=soft,
                hard=hard,
                needs_reference=needs_reference,
                couples_rows=couples_rows,
                per=per,
                divergences=divergences,
                needs_mismatch=needs_mismatch,
                rewards=rewards,
                reads_votes=reads_votes,
                per_token=per_token,
                stable=stable,
                params=dict(params or {}),
            ),
        )
        return function

    return register


# Registration happens on import, in the order in which the losses are listed to people; the
# modules import torch only when a loss is computed.
# isort: off
from prefkit.training.losses import sigmoid as sigmoid  # noqa: E402
from prefkit.training.losses import contrast as contrast  # noqa: E402
from prefkit.training.losses import regression as regression  # noqa: E402
from prefkit.training.losses import absolute as absolute  # noqa: E402
from prefkit.training.losses import transport as transport  # noqa: E402
from prefkit.training.losses import reference_free as reference_free  # noqa: E402
from prefkit.training.losses import unpaired as unpaired  # noqa: E402
from prefkit.training.losses import ranking as ranking  # noqa: E402
from prefkit.training.losses import votes as votes  # noqa: E402
from prefkit.training.losses import likelihood as likelihood  # noqa: E402
from prefkit.training.losses import reward as reward  # noqa: E402
