"""What a rater is given next, and on which side: schedules that follow from the rater's own count.

Nothing here is stored and nothing is drawn twice: the n-th task of a rater is decided by the
store's salt, the rater and n, so a reload or another process decides the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from functools import cache
from math import ceil, floor

from prefkit.annotation.settings import AnnotateSettings
from prefkit.core.rng import derive_rng
from prefkit.store.chain import RaterRow
from prefkit.store.leasing import GOLD, IN_ORDER, SLICE, LeasePlan, Slot

_SIDES: tuple[Slot, ...] = ("a", "a", "b", "b")


@dataclass(frozen=True, slots=True)
class Assignment:
    """The schedule of one store: rates from the settings, randomness from the store's salt."""

    salt: str
    gold_rate: float = 0.0
    repeat_rate: float = 0.0
    slice_rate: float = 0.0
    held: int = 2  # the pair on the screen and those after it

    @classmethod
    def of(cls, settings: AnnotateSettings, salt: str) -> Assignment:
        """The schedule that the settings ask for."""
        return cls(
            salt,
            gold_rate=settings.gold_rate if settings.gold is not None else 0.0,
            repeat_rate=settings.repeat_rate,
            slice_rate=settings.random_slice if is_sliced(settings) else 0.0,
            held=1 + settings.ahead,
        )

    def plan(self, ttl: timedelta) -> LeasePlan:
        """How leases are given; a lease ends ``ttl`` after the last sign of life."""
        return LeasePlan(self.held, ttl, self.lanes, self.side, self.repeat_due)

    def lanes(self, row: RaterRow) -> tuple[int, ...]:
        """Where the rater's next task comes from, in this order."""
        ordinary = (SLICE, IN_ORDER) if self._from_slice(row) else (IN_ORDER, SLICE)
        is_gold = in_slot("gold", self.salt, row.rater, row.n_served, self.gold_rate)
        return (GOLD, *ordinary) if is_gold else ordinary

    def side(self, row: RaterRow) -> Slot:
        """The slot on the left of the rater's next task: of each four, two and two."""
        block, place = divmod(row.n_served, len(_SIDES))
        return derive_rng("side", self.salt, row.rater, block).sample(_SIDES, len(_SIDES))[place]

    def repeat_due(self, row: RaterRow) -> bool:
        """Whether the rater's next task is one they had before, if there is one long ago."""
        return in_slot("repeat", self.salt, row.rater, row.n_served, self.repeat_rate)

    def _from_slice(self, row: RaterRow) -> bool:
        if self.slice_rate <= 0:
            return False
        return derive_rng("slice", self.salt, row.rater, row.n_served).random() < self.slice_rate


def is_sliced(settings: AnnotateSettings) -> bool:
    """Whether a random share of the tasks is kept apart, in random order and with k votes each."""
    return settings.order == "uncertain" or settings.overlap.most is not None


def in_slot(name: str, salt: str, rater: str, n: int, rate: float) -> bool:
    """Whether the n-th task is the one of its block that is of this sort; blocks are as long as
    ``rate`` has it on the average, so that of 1,000 tasks 1,000 · rate are."""
    exact = _exact(rate)
    if exact <= 0:
        return False
    block = floor(n * exact)
    first, after = ceil(block / exact), ceil((block + 1) / exact)
    return derive_rng(name, salt, rater, block).randrange(after - first) == n - first


@cache
def _exact(rate: float) -> Fraction:
    """A rate as it was meant: 0.3 is three tenths, and no float."""
    return Fraction(rate).limit_denominator(10**6)
