"""The built-in methods by name, in the order of the ladder: each needs more votes than the last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefkit.aggregation.bradley_terry import BradleyTerry
from prefkit.aggregation.choosing import aggregate_fitted
from prefkit.aggregation.dawid_skene import DawidSkene
from prefkit.aggregation.majority import Majority
from prefkit.aggregation.methods import AGGREGATORS, Aggregate, Aggregator, Method
from prefkit.aggregation.responses import ResponseBradleyTerry
from prefkit.aggregation.strength import Strength
from prefkit.aggregation.vote_share import LeaveOneOutShare, VoteShare, vote_share
from prefkit.aggregation.votes import CountedVotes
from prefkit.core.errors import ConfigError
from prefkit.core.records import Comparison, Preference, Vote


def fitted_aggregator(name: str) -> Aggregate:
    """The plain function of a built-in method: every vote counts, with its temperature."""

    def run(
        comparisons: Sequence[Comparison], votes: Sequence[Vote], *, params: Mapping[str, Any]
    ) -> list[Preference]:
        if params:
            raise ConfigError(f"{name} takes no parameters, got {', '.join(sorted(params))}")
        ordered = tuple(sorted(votes, key=lambda vote: vote.id))
        counted = CountedVotes(ordered, (), frozenset(), {})
        return aggregate_fitted(comparisons, counted, name, score_all=False).preferences

    return run


def _add(
    name: str,
    method: Method,
    about: str,
    paper: str,
    *,
    function: Aggregate | None = None,
    tempered: bool = True,
    eligible: bool = True,
) -> None:
    function = function or fitted_aggregator(name)
    AGGREGATORS.add(name, Aggregator(name, function, about, paper, method, tempered, eligible))


_add(
    "majority",
    Majority(),
    "The side with more votes at 0.98 before the temperature; never picked by auto.",
    "a baseline",
    eligible=False,
)
_add(
    "vote_share",
    VoteShare(),
    "Share of the votes, weighted by strength, with one virtual vote for each side.",
    "Laplace 1814; strengths as in HelpSteer2-Preference (2410.01257)",
    function=vote_share,
    tempered=False,
)
_add(
    "fitted_share",
    LeaveOneOutShare(),
    "The vote share with as many virtual votes as predict each vote best from the others.",
    "Laplace 1814, with a fitted number of virtual votes",
)
_add(
    "strength",
    Strength(),
    "Each strength counts as much as other raters agree with it; so does each rater.",
    "agreement tables; log-odds pooling",
)
_add(
    "dawid_skene",
    DawidSkene(),
    "True outcomes (a, b, tie, both bad) and each rater's table of what they say of them.",
    "Dawid and Skene 1979",
)
_add(
    "bradley_terry",
    BradleyTerry(),
    "A score of each comparison, integrated out; each rater's skill and lean to the left.",
    "Bradley and Terry 1952; Crowd-BT (Chen et al. 2013); factorBT (Bugakova et al. 2019)",
)
_add(
    "response_bradley_terry",
    ResponseBradleyTerry(),
    "A score of each answer where answers are in several comparisons; raters as above.",
    "Bradley and Terry 1952; Crowd-BT (Chen et al. 2013)",
)
