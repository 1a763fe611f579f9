"""Votes as arrays: what the fitted methods compute on. Knows nothing of any method.

Votes are ordered by id, so that nothing depends on the order in which they were read. A table is
narrowed by ``where``: items, raters and responses keep their numbers, so parameters fitted on one
part of the votes apply to another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from prefkit.core.records import Comparison, Vote

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

T = TypeVar("T")
A, B, TIE, BOTH_BAD = 0, 1, 2, 3
_OUTCOMES = {"a": A, "b": B, "tie": TIE, "both_bad": BOTH_BAD}
_SIDES = {"a": 1, "b": -1, None: 0}


@dataclass(frozen=True)
class VoteTable:
    """One row a vote: arrays of equal length but ``first`` and ``second``, which are by item.

    item, rater: numbers into ``items`` (comparison ids) and ``raters``. share: what the vote gives
    to a, in [0, 1]; a machine's is its p_a, that of both_bad is 0.5 and means nothing. level:
    strength 0 to 3, −1 unknown. side: +1 where a stood on the left, −1 where b did, 0 unknown.
    outcome: A, B, TIE or BOTH_BAD. machine: not a person. soft: a machine's with a
    probability. first, second: the response in slot a
    and in slot b of each item, of ``n_responses``.
    """

    items: tuple[str, ...]
    raters: tuple[str, ...]
    item: Indices
    rater: Indices
    share: Floats
    level: Indices
    side: Indices
    outcome: Indices
    machine: Bools
    soft: Bools
    first: Indices
    second: Indices
    n_responses: int
    _done: dict[str, Any] = field(default_factory=dict[str, Any], compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.item)

    @property
    def n_items(self) -> int:
        return len(self.items)

    @property
    def n_raters(self) -> int:
        return len(self.raters)

    @cached_property
    def speaking(self) -> Self:
        """The votes for a, b or a tie."""
        return self.where(self.outcome != BOTH_BAD)

    @cached_property
    def counts(self) -> Indices:
        """Votes of each item, (n_items,)."""
        return np.bincount(self.item, minlength=self.n_items)

    def once(self, what: str, work: Callable[[Self], T]) -> T:
        """``work`` of exactly these votes, done once however many methods want it."""
        if what not in self._done:
            self._done[what] = work(self)
        return self._done[what]

    def where(self, kept: Bools | Indices) -> Self:
        """The table of some of the votes: a mask, or their numbers in rising order."""
        return replace(
            self,
            item=self.item[kept],
            rater=self.rater[kept],
            share=self.share[kept],
            level=self.level[kept],
            side=self.side[kept],
            outcome=self.outcome[kept],
            machine=self.machine[kept],
            soft=self.soft[kept],
            _done={},
        )

    def compact(self) -> Self:
        """The table of the items and answers that have a vote, numbered anew."""
        kept, item = np.unique(self.item, return_inverse=True)
        answers, at = np.unique(
            np.concatenate([self.first[kept], self.second[kept]]), return_inverse=True
        )
        return replace(
            self,
            items=tuple(self.items[int(index)] for index in kept),
            item=item.astype(np.int64),
            first=at[: len(kept)].astype(np.int64),
            second=at[len(kept) :].astype(np.int64),
            n_responses=len(answers),
            _done={},
        )

    def voices(self) -> Floats:
        """Each rater's share of the judged votes, (n_raters,): whom a fresh rater is drawn from.

        Zeros where there is no vote.
        """
        n = np.bincount(self.rater[self.judged()], minlength=self.n_raters)
        return n / max(int(n.sum()), 1)

    def judged(self) -> Bools:
        """The votes that say what a fresh rater prefers, (n,): people's where there are any.

        A machine's vote is evidence of what people prefer, not an instance of it.
        """
        speaking = self.outcome != BOTH_BAD
        people = speaking & ~self.machine
        return people if people.any() else speaking


def vote_table(comparisons: Sequence[Comparison], votes: Iterable[Vote]) -> VoteTable:
    """The standing votes as a table; each vote's comparison is one of ``comparisons``."""
    slot = {comparison.id: index for index, comparison in enumerate(comparisons)}
    ordered = sorted(votes, key=lambda vote: vote.id)
    names = tuple(sorted({vote.rater for vote in ordered}))
    number = {name: index for index, name in enumerate(names)}
    responses: dict[str, int] = {}
    first = [responses.setdefault(c.a.id, len(responses)) for c in comparisons]
    second = [responses.setdefault(c.b.id, len(responses)) for c in comparisons]
    machine = np.array([vote.rater_kind != "human" for vote in ordered], dtype=np.bool_)
    return VoteTable(
        items=tuple(slot),
        raters=names,
        item=_indices([slot[vote.comparison_id] for vote in ordered]),
        rater=_indices([number[vote.rater] for vote in ordered]),
        share=np.array([share_of_a(vote) for vote in ordered], dtype=np.float64),
        level=_indices([-1 if vote.strength is None else vote.strength for vote in ordered]),
        side=_indices([_SIDES[vote.shown_first] for vote in ordered]),
        outcome=_indices([_OUTCOMES[vote.choice] for vote in ordered]),
        machine=machine,
        soft=np.array([is_soft(vote) for vote in ordered], dtype=np.bool_),
        first=_indices(first),
        second=_indices(second),
        n_responses=len(responses),
    )


def share_of_a(vote: Vote) -> float:
    """What one vote gives to a, in [0, 1]; 0.5 for both_bad, which gives nothing to either."""
    if is_soft(vote):
        return vote.p_a or 0.0
    return {"a": 1.0, "b": 0.0}.get(vote.choice, 0.5)


def is_soft(vote: Vote) -> bool:
    """Whether the vote is a machine's with a probability."""
    return vote.p_a is not None and vote.rater_kind != "human" and vote.choice != "both_bad"


def _indices(values: Sequence[int]) -> Indices:
    return np.array(values, dtype=np.int64)
