"""The registry of aggregators, and the seam of those that learn from the votes.

An aggregator is a plain function from standing votes to preferences. One that is fitted is a
``Method`` besides: its fit and its prediction are apart, so that cross-validation can score it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prefkit.aggregation.table import Floats, VoteTable
from prefkit.core.records import Comparison, Preference, Vote
from prefkit.core.registry import Registry


class Aggregate(Protocol):
    """votes: only a, b and tie, none replaced (aggregation/votes.py). One Preference for each
    comparison that has a vote, in the order of ``comparisons``. params: the method's own.
    """

    def __call__(
        self,
        comparisons: Sequence[Comparison],
        votes: Sequence[Vote],
        *,
        params: Mapping[str, Any],
    ) -> list[Preference]: ...


class Fitted(Protocol):
    """What a method has learned from some votes."""

    def p_a(self, votes: VoteTable) -> Floats:
        """P(a fresh rater prefers a, sides drawn by lot) of every item given ``votes``, (n_items,).

        In (0, 1); of an item without a vote what is believed before one. A tie is half a vote for
        each side.
        """
        ...

    def error_rates(self) -> Floats | None:
        """Each rater's chance of saying the opposite of a perfect rater, (n_raters,), in [0, 1].

        None where the method has no notion of it.
        """
        ...


class Method(Protocol):
    """An aggregator that can be fitted on one part of the votes and asked about another."""

    def fit(self, train: VoteTable) -> Fitted:
        """What ``train`` teaches; it may hold no vote at all."""
        ...

    def why_not(self, table: VoteTable) -> str | None:
        """Why the method says nothing about these votes; None where it applies."""
        ...


@dataclass(frozen=True, slots=True)
class Aggregator:
    """One method and where it comes from.

    method: None for a plain function, which is neither calibrated nor scored. tempered: whether
    its logits are multiplied by the temperature found on held-out votes. eligible: whether
    ``auto`` may pick it.
    """

    name: str
    function: Aggregate
    about: str
    paper: str
    method: Method | None = None
    tempered: bool = True
    eligible: bool = True


AGGREGATORS: Registry[Aggregator] = Registry("aggregation method", "prefkit.aggregators")


def aggregator(name: str, *, paper: str) -> Callable[[Aggregate], Aggregate]:
    """Register the decorated function; its docstring's first line becomes the description."""

    def register(function: Aggregate) -> Aggregate:
        about = (function.__doc__ or "").strip().split("\n")[0]
        AGGREGATORS.add(name, Aggregator(name, function, about, paper))
        return function

    return register
