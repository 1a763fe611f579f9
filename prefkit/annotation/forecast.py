"""When the work will be done, if it goes on as in the last days."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import fmean, stdev

from prefkit.store.queries import Day, Progress

DAYS = 7
_FARTHEST = 3650
# Student's t, 97.5 %, by degrees of freedom.
_T = (math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447)


@dataclass(frozen=True, slots=True)
class Forecast:
    """left: votes still wanted. per_day: votes on a day that people work, the mean of the last
    ``n_days`` such days, with its 95 % interval (None from one day). share: days worked of all.

    likely, early, late: the day the last vote comes; None where it is ten years off or more, or the
    pace may be nothing.
    """

    left: int
    n_days: int
    per_day: float
    low: float | None
    high: float | None
    share: float
    likely: date | None
    early: date | None
    late: date | None


def forecast(progress: Progress, days: Sequence[Day], today: date) -> Forecast | None:
    """The forecast from the days before today that had votes; None from none, or if all is done.

    Today is not over, so it counts only where no other day does.
    """
    left = progress.wanted - progress.done
    past = [day for day in days if date.fromisoformat(day.day) < today] or list(days)
    used = past[-DAYS:]
    if left <= 0 or not used:
        return None
    counts = [day.n_votes for day in used]
    first = date.fromisoformat(used[0].day)
    last = max(date.fromisoformat(used[-1].day), today - timedelta(days=1))
    share = len(used) / ((last - first).days + 1)
    mean, low, high = fmean(counts), None, None
    if len(counts) > 1:
        half = _T[len(counts) - 1] * stdev(counts) / math.sqrt(len(counts))
        low, high = max(0.0, mean - half), mean + half

    def after(per_day: float | None) -> date | None:
        if not per_day:
            return None
        needed = math.ceil(left / (per_day * share))
        return None if needed > _FARTHEST else today + timedelta(days=needed)

    return Forecast(left, len(used), mean, low, high, share, after(mean), after(high), after(low))
