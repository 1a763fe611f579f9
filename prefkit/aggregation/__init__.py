"""Votes → P(a wins) for each comparison → training pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field, field_validator

from prefkit.aggregation import vote_share as _vote_share  # registers the built-in method
from prefkit.aggregation.examples import build_examples
from prefkit.aggregation.methods import AGGREGATORS, aggregator
from prefkit.aggregation.votes import CountedVotes, counted_votes
from prefkit.core.errors import ConfigError
from prefkit.core.records import Comparison, Preference, Vote
from prefkit.settings import Settings

__all__ = [
    "AGGREGATORS",
    "AggregateSettings",
    "CountedVotes",
    "aggregate",
    "aggregator",
    "build_examples",
    "counted_votes",
]
del _vote_share


class AggregateSettings(Settings):
    """How votes become probabilities."""

    method: str = Field(
        default="vote_share", description="aggregation method; vote_share is built in"
    )

    @field_validator("method")
    @classmethod
    def _known(cls, method: str) -> str:
        try:
            AGGREGATORS.get(method)
        except ConfigError as error:
            raise ValueError(f"{error.message}; {error.hint}") from None
        return method


def aggregate(
    comparisons: Sequence[Comparison],
    votes: Iterable[Vote],
    *,
    method: str = "vote_share",
    params: Mapping[str, Any] | None = None,
) -> list[Preference]:
    """What is believed of each comparison that has a vote for a, b or a tie, in given order.

    Replaced, withdrawn, skipped, both_bad and invalid votes take no part; ``counted_votes``
    says how many there are of each. ConfigError for an unknown method.
    """
    counted = counted_votes(comparisons, votes)
    return AGGREGATORS.get(method).function(comparisons, counted.votes, params=params or {})
