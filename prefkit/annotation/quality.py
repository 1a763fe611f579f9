"""How raters do: gold, repeats, time, sides and agreement. Pure; nothing here drops a vote.

Every share comes with a Wilson interval, because most raters have few gold items. A flag is a
reason to look, said to the lead; a fast or odd rater's votes stay as they are.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from prefkit.aggregation import interval
from prefkit.core.records import Vote
from prefkit.store.ordering import TaskFacts

SIDED = ("a", "b", "tie")
_OTHER = {"a": "b", "b": "a"}
CONSTANT_BITS = 0.3  # of the keys' entropy
CONSTANT_FROM = 30  # votes
FAST_SHARE = 0.5
ENOUGH = 10  # items before a share is a reason to look
GOOD = 0.7  # of gold and repeats


@dataclass(frozen=True, slots=True)
class Share:
    """n_hits of n, and its 95 % Wilson interval, in [0, 1]."""

    n_hits: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The plain share."""
        return self.n_hits / self.n


@dataclass(frozen=True, slots=True)
class RaterQuality:
    """One rater, from the votes of theirs that stand; a share of nothing is None.

    gold: the better slot was chosen. repeats: the same slot as the first time, with sides swapped.
    agreement: with the majority of the others. left: the left side among the votes for a side.
    fast: votes after less than ``fast_ms``. key_bits: entropy of what was chosen on the screen.
    """

    rater: str
    n_votes: int
    gold: Share | None
    repeats: Share | None
    agreement: Share | None
    left: Share | None
    fast: Share | None
    median_ms: float | None
    key_bits: float
    flags: tuple[str, ...]


def wilson(n_hits: int, n: int) -> Share | None:
    """The share with its 95 % interval (Wilson 1927); None of nothing."""
    if n == 0:
        return None
    return Share(n_hits, n, *interval.wilson(n_hits / n, n))


def rater_quality(
    votes: Iterable[Vote], tasks: Sequence[TaskFacts], *, fast_ms: int
) -> list[RaterQuality]:
    """How each person does, by rater id. votes: all, those on hidden tasks among them."""
    kinds = {task.id: task for task in tasks}
    stands = _standing(votes)
    labels = {key: vote for key, vote in stands.items() if kinds[key[0]].kind == "label"}
    majority = _Majority(labels.values())
    of_rater: defaultdict[str, list[Vote]] = defaultdict(list)
    for vote in stands.values():
        if vote.rater_kind == "human":
            of_rater[vote.rater].append(vote)
    return [
        _quality(rater, mine, kinds, labels, majority, fast_ms)
        for rater, mine in sorted(of_rater.items())
    ]


def _standing(votes: Iterable[Vote]) -> dict[tuple[str, str], Vote]:
    """The last word of each rater on each task: votes come in the order of the store."""
    stands: dict[tuple[str, str], Vote] = {}
    for vote in votes:
        if vote.choice == "withdrawn":
            stands.pop((vote.task_id, vote.rater), None)
        else:
            stands[vote.task_id, vote.rater] = vote
    return stands


class _Majority:
    """What the others said of a comparison: a rater's own vote is left out."""

    def __init__(self, votes: Iterable[Vote]) -> None:
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for vote in votes:
            if vote.choice in SIDED:
                self._counts[vote.comparison_id][vote.choice] += 1

    def without(self, vote: Vote) -> str | None:
        """The choice most others made; None where there is no such one."""
        counts = self._counts[vote.comparison_id].copy()
        counts[vote.choice] -= 1
        ranked = counts.most_common(2)
        if not ranked or ranked[0][1] == 0 or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
            return None
        return ranked[0][0]


def _quality(
    rater: str,
    mine: Sequence[Vote],
    kinds: Mapping[str, TaskFacts],
    labels: Mapping[tuple[str, str], Vote],
    majority: _Majority,
    fast_ms: int,
) -> RaterQuality:
    of_kind = {kind: [v for v in mine if kinds[v.task_id].kind == kind] for kind in _KINDS}
    judged = [v for v in of_kind["gold"] if v.choice != "skip"]
    gold = wilson(sum(v.choice == kinds[v.task_id].gold for v in judged), len(judged))
    pairs = [
        (first.choice, again.choice)
        for again in of_kind["repeat"]
        if (first := labels.get((again.comparison_id, rater))) is not None
        and first.choice in SIDED
        and again.choice in SIDED
    ]
    repeats = wilson(sum(one == two for one, two in pairs), len(pairs))
    sided = [v for v in of_kind["label"] if v.choice in SIDED]
    others = [(v.choice, said) for v in sided if (said := majority.without(v)) is not None]
    agreement = wilson(sum(one == two for one, two in others), len(others))
    shown = [v for v in mine if v.choice in _OTHER and v.shown_first is not None]
    times = [v.active_ms for v in mine if v.active_ms is not None and v.choice != "skip"]
    fast = wilson(sum(ms < fast_ms for ms in times), len(times))
    bits = entropy(screen_key(v) for v in mine)
    return RaterQuality(
        rater=rater,
        n_votes=len(mine),
        gold=gold,
        repeats=repeats,
        agreement=agreement,
        left=wilson(sum(v.choice == v.shown_first for v in shown), len(shown)),
        fast=fast,
        median_ms=float(median(times)) if times else None,
        key_bits=bits,
        flags=_flags(gold, repeats, fast, bits, len(mine)),
    )


_KINDS = ("label", "gold", "repeat", "adjudicate")


def _flags(
    gold: Share | None, repeats: Share | None, fast: Share | None, bits: float, n: int
) -> tuple[str, ...]:
    """Reasons to look at a rater; low means that even the interval's upper end is low."""
    found: list[str] = []
    if gold is not None and gold.n >= ENOUGH and gold.high < GOOD:
        found.append("gold")
    if repeats is not None and repeats.n >= ENOUGH and repeats.high < GOOD:
        found.append("repeats")
    if fast is not None and fast.n >= ENOUGH and fast.value >= FAST_SHARE:
        found.append("fast")
    if n >= CONSTANT_FROM and bits < CONSTANT_BITS:
        found.append("constant")
    return tuple(found)


def screen_key(vote: Vote) -> str:
    """What the rater saw themselves choose: left, right or a word, with its strength."""
    if vote.choice not in _OTHER or vote.shown_first is None:
        return vote.choice
    side = "left" if vote.choice == vote.shown_first else "right"
    return f"{side} {vote.strength}"


def entropy(values: Iterable[str]) -> float:
    """The entropy of what was seen, in bits; 0 for none."""
    counts = Counter(values)
    n = sum(counts.values())
    return -sum(c / n * math.log2(c / n) for c in counts.values()) + 0.0
