"""Which votes speak: duplicates, revisions and withdrawals resolved, the rest counted by reason.

Every aggregator gets its votes from here, so none can count a replaced one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prefkit.core.records import Comparison, Vote

SPEAKING = ("a", "b", "tie")


@dataclass(frozen=True, slots=True)
class CountedVotes:
    """The votes for a, b or a tie that stand, ordered by id, and where the others went.

    bad: the standing both_bad votes, ordered by id: no evidence of p_a, but of what raters mean
    (Dawid–Skene). both_bad: comparison ids whose standing votes are only both_bad (at least one):
    they have no preference, but both answers are negatives for KTO.
    """

    votes: tuple[Vote, ...]
    bad: tuple[Vote, ...]
    both_bad: frozenset[str]
    counts: dict[str, int]


def standing_votes(votes: Iterable[Vote]) -> tuple[list[Vote], Counter[str]]:
    """The votes that are neither repeated, replaced nor withdrawn, ordered by id.

    A vote is replaced by any later one that names it in ``replaces``. The undo of a revision
    does not bring the first vote back: that one was replaced.
    """
    counts: Counter[str] = Counter()
    by_id: dict[str, Vote] = {}
    for vote in votes:
        counts["n_votes"] += 1
        if vote.id in by_id:
            counts["n_repeated"] += 1  # a client sent it again; the id says it is the same vote
        if vote.id not in by_id or vote.at < by_id[vote.id].at:
            by_id[vote.id] = vote
    replaced = {vote.replaces for vote in by_id.values() if vote.replaces is not None}
    standing: list[Vote] = []
    for vote in sorted(by_id.values(), key=lambda vote: vote.id):
        if vote.id in replaced:
            counts["n_replaced"] += 1
        elif vote.choice == "withdrawn":
            counts["n_withdrawn"] += 1
        else:
            standing.append(vote)
    return standing, counts


def counted_votes(comparisons: Sequence[Comparison], votes: Iterable[Vote]) -> CountedVotes:
    """The votes that an aggregator gets; counts add up to the votes given.

    Late votes (beyond a task's k) count: what is known is known. Votes on comparisons that are
    not given are counted as n_unknown_comparison and left out.
    """
    known = {comparison.id for comparison in comparisons}
    standing, counts = standing_votes(votes)
    speaking: list[Vote] = []
    bad: list[Vote] = []
    for vote in standing:
        if vote.comparison_id not in known:
            counts["n_unknown_comparison"] += 1
        elif vote.choice in SPEAKING:
            counts["n_counted"] += 1
            speaking.append(vote)
        else:
            counts[f"n_{vote.choice}"] += 1
            if vote.choice == "both_bad":
                bad.append(vote)
    heard = {vote.comparison_id for vote in speaking}
    named = {name: counts[name] for name in _COUNTS}
    named["n_comparisons"] = len(known)
    named["n_without_preference"] = len(known - heard)
    only_bad = frozenset(vote.comparison_id for vote in bad) - heard
    return CountedVotes(tuple(speaking), tuple(bad), only_bad, named)


_COUNTS = (
    "n_votes",
    "n_counted",
    "n_repeated",
    "n_replaced",
    "n_withdrawn",
    "n_skip",
    "n_invalid",
    "n_both_bad",
    "n_unknown_comparison",
)
