"""95 % intervals of what is computed over votes: comparisons are resampled or counted whole.

Votes on one comparison are not independent: they share its answers. So what varies is which
comparisons were drawn, and every interval here goes by comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefkit.aggregation.numeric import sums
from prefkit.aggregation.table import Floats, Indices

N_RESAMPLES = 1000
Z95 = 1.959963984540054
_AT_ONCE = 2_000_000  # numbers drawn at once
_DEFINED = 0.95  # of the resamples, or there is no interval


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval; low and high are None together, where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


def bootstrap(
    parts: Any,
    statistic: Callable[[Floats], Floats],
    *,
    seed: int = 0,
    n: int = N_RESAMPLES,
) -> Estimate | None:
    """``statistic`` of all comparisons, with the percentile interval of ``n`` resamples of them.

    parts: (comparisons, m), what each adds to the totals; dense or sparse. statistic: totals
    (..., m) → (...,), NaN where it is undefined. None where it is undefined for all comparisons;
    no interval for fewer than two of them, or where over 5 % of the resamples are undefined.
    """
    n_items = parts.shape[0]
    if n_items == 0:
        return None
    value = float(statistic(np.asarray(np.ones((1, n_items)) @ parts))[0])
    if math.isnan(value):
        return None
    if n_items < 2:
        return Estimate(value)
    rng = np.random.default_rng(seed)
    at_once = max(1, min(n, _AT_ONCE // n_items))
    found: list[Floats] = []
    for start in range(0, n, at_once):
        rows = min(at_once, n - start)
        drawn = rng.integers(0, n_items, (rows, n_items)) + n_items * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * n_items).reshape(rows, n_items)
        found.append(statistic(np.asarray(times.astype(np.float64) @ parts)))
    values = np.concatenate(found)
    values = values[~np.isnan(values)]
    if len(values) < _DEFINED * n:
        return Estimate(value)
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def wilson(p: float, n: float) -> tuple[float, float]:
    """The score interval (Wilson 1927) of a share ``p`` of ``n``, which need not be whole."""
    middle = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
    # At 0 and 1 the bound is exact; floats miss it by a hair.
    low = 0.0 if p == 0 else max(0.0, middle - half)
    high = 1.0 if p == 1 else min(1.0, middle + half)
    return low, high


def share(hit: Floats, item: Indices) -> Estimate | None:
    """The mean of ``hit`` (0 or 1 a vote); None of no votes.

    Wilson's interval with the effective number of votes: as many independent ones as vary like
    these do between comparisons (Korn & Graubard 1998), never more than there are votes; where
    all say the same, as many as there are comparisons.
    """
    n = len(hit)
    if n == 0:
        return None
    _, at = np.unique(item, return_inverse=True)
    n_items = int(at.max()) + 1
    p = float(hit.mean())
    effective = float(n_items)
    if n_items > 1 and 0 < p < 1:
        off = sums(at.astype(np.int64), hit - p, n_items)
        variance = float(off @ off) / n**2 * n_items / (n_items - 1)
        effective = min(float(n), p * (1 - p) / variance) if variance > 0 else float(n)
    return Estimate(p, *wilson(p, effective))
