"""Numbers on an axis: round ticks, their labels, and the map from value to pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_POINTS = 600


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear axis: ``low``..``high`` in data units onto ``start``..``end`` in pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of ``value``, to a tenth."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values (1, 2, 2.5 or 5 times a power of ten) that cover ``low``..``high``.

    The first is at most ``low`` and the last at least ``high``; an empty range is widened.
    """
    if not high > low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = 12 - math.floor(math.log10(step))  # of the step's own size, however small
    return [round(index * step, digits) for index in range(first, last + 1)]


def label(value: float, *, percent: bool = False) -> str:
    """A short text for a tick or a bar: ``0.25``, ``1 200``, ``3e-05``; ``25 %`` for a share."""
    if percent:
        return f"{100 * value:.4g} %"
    if value == 0:
        return "0"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        return f"{value:.3g}"
    if float(value).is_integer():
        return f"{int(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{value:.4g}"


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MOST_POINTS points that keep every peak: the lowest and highest y of each stretch."""
    if len(points) <= MOST_POINTS:
        return list(points)
    kept: list[tuple[float, float]] = [points[0]]
    n_stretches = (MOST_POINTS - 2) // 2
    inner = points[1:-1]
    for index in range(n_stretches):
        stretch = inner[index * len(inner) // n_stretches : (index + 1) * len(inner) // n_stretches]
        ends = {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
        kept.extend(sorted(ends))
    return [*kept, points[-1]]
