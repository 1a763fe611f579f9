"""From votes to preferences by a fitted method: whether they can be calibrated, which method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefkit.aggregation.beliefs import preferences_of
from prefkit.aggregation.crossval import AUTO, BASELINE, Evaluation, Plan, evaluate, make_plan
from prefkit.aggregation.methods import AGGREGATORS, Aggregator, Fitted
from prefkit.aggregation.scores import tempered
from prefkit.aggregation.strength import Strength
from prefkit.aggregation.table import Floats, VoteTable, vote_table
from prefkit.aggregation.votes import CountedVotes
from prefkit.core.ids import content_id
from prefkit.core.records import Comparison, Preference, Vote

FEWEST_VOTES = 200  # held-out votes below which nothing is fitted to them
VERSION = "1"


@dataclass(frozen=True)
class Aggregated:
    """What came of the votes. method: the one used, never "auto". temperature: None where its
    logits are taken as they are. uncalibrated: why nothing could be scored, None where it was.
    evaluation: None where nothing was scored.
    """

    preferences: list[Preference]
    method: str
    temperature: float | None
    uncalibrated: str | None
    evaluation: Evaluation | None


def aggregate_fitted(
    comparisons: Sequence[Comparison], counted: CountedVotes, name: str, *, score_all: bool
) -> Aggregated:
    """Preferences by the method ``name``, or by the best where it is "auto".

    "auto" without votes enough to score is the vote share. score_all: score every method even
    where one is named.
    """
    votes = sorted((*counted.votes, *counted.bad), key=lambda vote: vote.id)
    table = vote_table(comparisons, votes)
    plan = make_plan(table)
    reason = why_uncalibrated(plan)
    if reason is not None:
        name = BASELINE if name == AUTO else name
        return _deliver(comparisons, votes, table, AGGREGATORS.get(name), None, reason)
    if name == AUTO or score_all:
        entries = {found: entry for found, entry in AGGREGATORS if entry.method}
    else:
        entries = {found: AGGREGATORS.get(found) for found in dict.fromkeys((BASELINE, name))}
    evaluation = evaluate(entries, plan)[0]
    name = evaluation.picked if name == AUTO else name
    return _deliver(comparisons, votes, table, AGGREGATORS.get(name), evaluation, None)


def why_uncalibrated(plan: Plan) -> str | None:
    """Why held-out votes can say nothing here; None where they can."""
    n = len(plan.targets)
    if n == 0:
        return "every comparison has the vote of one rater"
    if n < FEWEST_VOTES:
        return f"{n} votes have another one beside them; {FEWEST_VOTES} are needed"
    return None


def _deliver(
    comparisons: Sequence[Comparison],
    votes: Sequence[Vote],
    table: VoteTable,
    entry: Aggregator,
    evaluation: Evaluation | None,
    uncalibrated: str | None,
) -> Aggregated:
    """The preferences by ``entry``, fitted to all votes."""
    assert entry.method is not None
    fitted = entry.method.fit(table)
    p_a, version, temperature = fitted.p_a(table), VERSION, None
    if evaluation is not None:
        uncalibrated = evaluation.left_out.get(entry.name)
    if entry.tempered:
        said = "uncalibrated"
        if evaluation is not None and uncalibrated is None:
            temperature = evaluation.score(entry.name).temperature
            said = f"tau={temperature:.4g}"
        p_a = tempered(p_a, temperature or 1.0, table.speaking.counts)
        version = f"{VERSION} {said} votes={content_id([vote.id for vote in votes])[:8]}"
    preferences = preferences_of(
        comparisons,
        [vote for vote in votes if vote.choice != "both_bad"],
        table.speaking,
        p_a,
        method=entry.name,
        version=version,
        error_rates=_error_rates(fitted, table) if uncalibrated is None else None,
    )
    return Aggregated(preferences, entry.name, temperature, uncalibrated, evaluation)


def _error_rates(fitted: Fitted, table: VoteTable) -> Floats | None:
    """The method's own, else those that agreement tells."""
    rates = fitted.error_rates()
    return Strength().fit(table).error_rates() if rates is None else rates
