"""Votes → P(a wins) for each comparison → training pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field, field_validator

from prefkit.aggregation import builtin as _builtin  # registers the built-in methods
from prefkit.aggregation.choosing import AUTO, Aggregated, aggregate_fitted
from prefkit.aggregation.examples import build_examples
from prefkit.aggregation.methods import AGGREGATORS, aggregator
from prefkit.aggregation.votes import CountedVotes, counted_votes
from prefkit.core.errors import ConfigError
from prefkit.core.records import Comparison, Preference, Vote
from prefkit.settings import Settings

__all__ = [
    "AGGREGATORS",
    "AggregateSettings",
    "Aggregated",
    "CountedVotes",
    "aggregate",
    "aggregate_scored",
    "aggregator",
    "build_examples",
    "counted_votes",
]
del _builtin


class AggregateSettings(Settings):
    """How votes become probabilities."""

    method: str = Field(
        default=AUTO,
        description="aggregation method; auto is the one that predicts held-out votes best, and "
        "vote_share where too few comparisons have two votes to tell",
    )

    @field_validator("method")
    @classmethod
    def _known(cls, method: str) -> str:
        try:
            check_method(method)
        except ConfigError as error:
            raise ValueError(f"{error.message}; {error.hint}") from None
        return method


def check_method(method: str) -> None:
    """ConfigError for a method that is neither auto nor registered."""
    if method == AUTO:
        return
    try:
        AGGREGATORS.get(method)
    except ConfigError as error:
        raise ConfigError(error.message, hint=f"{error.hint}, {AUTO}") from None


def aggregate(
    comparisons: Sequence[Comparison],
    votes: Iterable[Vote],
    *,
    method: str = AUTO,
    params: Mapping[str, Any] | None = None,
) -> list[Preference]:
    """What is believed of each comparison that has a vote for a, b or a tie, in given order.

    Replaced, withdrawn, skipped, both_bad and invalid votes take no part (Dawid–Skene reads
    both_bad); ``counted_votes`` says how many there are of each. method "auto": the one that
    predicts held-out votes best. ConfigError for an unknown method.
    """
    counted = counted_votes(comparisons, votes)
    return _run(comparisons, counted, method, params or {}, score_all=False).preferences


def aggregate_scored(
    comparisons: Sequence[Comparison], counted: CountedVotes, *, method: str = AUTO
) -> Aggregated:
    """As ``aggregate``, of counted votes, with the score of every method on held-out votes."""
    return _run(comparisons, counted, method, {}, score_all=True)


def _run(
    comparisons: Sequence[Comparison],
    counted: CountedVotes,
    method: str,
    params: Mapping[str, Any],
    *,
    score_all: bool,
) -> Aggregated:
    check_method(method)
    comparisons = list({comparison.id: comparison for comparison in comparisons}.values())
    entry = None if method == AUTO else AGGREGATORS.get(method)
    if params and entry is None:
        raise ConfigError(f"{AUTO} takes no parameters, got {', '.join(sorted(params))}")
    if entry is None or (entry.method is not None and not params):
        return aggregate_fitted(comparisons, counted, method, score_all=score_all)
    preferences = entry.function(comparisons, counted.votes, params=params)
    return Aggregated(preferences, method, None, "a plain function is not scored", None)
