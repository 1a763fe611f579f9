"""The registry of aggregators: functions from standing votes to preferences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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


@dataclass(frozen=True, slots=True)
class Aggregator:
    """One method and where it comes from."""

    name: str
    function: Aggregate
    about: str
    paper: str


AGGREGATORS: Registry[Aggregator] = Registry("aggregation method", "prefkit.aggregators")


def aggregator(name: str, *, paper: str) -> Callable[[Aggregate], Aggregate]:
    """Register the decorated function; its docstring's first line becomes the description."""

    def register(function: Aggregate) -> Aggregate:
        about = (function.__doc__ or "").strip().split("\n")[0]
        AGGREGATORS.add(name, Aggregator(name, function, about, paper))
        return function

    return register
