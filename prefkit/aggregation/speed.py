"""Whether quick votes agree less with the others: agreement by time in view."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from prefkit.aggregation.interval import Estimate, share
from prefkit.aggregation.table import A, B, Bools, Floats, Indices, VoteTable, vote_table
from prefkit.aggregation.votes import counted_votes
from prefkit.core.records import Comparison, Vote

FIFTHS = 5
FEWEST = 10  # votes of a fifth


@dataclass(frozen=True, slots=True)
class Speed:
    """Votes that took ``low_ms`` to ``high_ms``, and the share that is the others' majority."""

    low_ms: int
    high_ms: int
    agreement: Estimate
    n_votes: int


def agreement_by_speed(votes: Iterable[Vote], comparisons: Sequence[Comparison]) -> list[Speed]:
    """The fifths of people's votes for a side by their time, quickest first.

    Of votes with a time, on comparisons where the others have a majority without them. Hard pairs
    take longer and are agreed on less: a fall towards the quick end is what says something. Empty
    below FIFTHS · FEWEST votes.
    """
    people = [
        vote for vote in counted_votes(comparisons, votes).votes if vote.rater_kind == "human"
    ]
    table = vote_table(comparisons, people)
    # A table has its votes in the order of their ids.
    times = [vote.active_ms for vote in sorted(people, key=lambda vote: vote.id)]
    ms = np.array([-1 if time is None else time for time in times], dtype=np.int64)
    agreed, known = _with_the_others(table)
    used = known & (ms >= 0)
    ms, agreed, item = ms[used], agreed[used], table.item[used]
    if len(ms) < FIFTHS * FEWEST:
        return []
    order = np.argsort(ms, kind="stable")
    return [_fifth(ms, agreed, item, part) for part in np.array_split(order, FIFTHS)]


def _fifth(ms: Indices, agreed: Floats, item: Indices, part: Indices) -> Speed:
    found = share(agreed[part], item[part])
    assert found is not None, "a fifth has votes"
    return Speed(int(ms[part].min()), int(ms[part].max()), found, len(part))


def _with_the_others(table: VoteTable) -> tuple[Floats, Bools]:
    """Whether each vote is what most others chose, and where both are for a side, (n,) each."""
    n_a, n_b = (
        np.bincount(table.item[table.outcome == side], minlength=table.n_items) for side in (A, B)
    )
    mine_a, mine_b = table.outcome == A, table.outcome == B
    others_a, others_b = n_a[table.item] - mine_a, n_b[table.item] - mine_b
    known = (mine_a | mine_b) & (others_a != others_b)
    return (mine_a == (others_a > others_b)).astype(np.float64), known
