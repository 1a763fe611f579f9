"""The forecast: dates from the pace of the last days of work."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from prefkit.annotation.forecast import forecast
from prefkit.store.queries import Day, Progress

TODAY = date(2026, 11, 20)


def days(*counts, end=TODAY - timedelta(days=1), every=1):
    """Days of work up to ``end``, with these votes."""
    first = end - timedelta(days=every * (len(counts) - 1))
    return [Day((first + timedelta(days=every * n)).isoformat(), count, 2)
            for n, count in enumerate(counts)]  # fmt: skip


def test_a_steady_pace_ends_on_the_day_that_arithmetic_says():
    found = forecast(Progress(1000, 700, 500, 200), days(*[100] * 7), TODAY)
    assert (found.left, found.per_day, found.low, found.high) == (300, 100, 100, 100)
    assert found.likely == found.early == found.late == TODAY + timedelta(days=3)


def test_days_off_count_as_days_off():
    """Work on every second day: half a day of work a day."""
    found = forecast(Progress(1000, 700, 500, 200), days(*[100] * 4, every=2), TODAY)
    assert found.share == pytest.approx(4 / 7)
    assert found.likely == TODAY + timedelta(days=6)  # 300 / (100 · 4/7) = 5.25


def test_a_pause_until_today_counts_as_days_off():
    found = forecast(Progress(1000, 700, 5, 2), days(100, end=TODAY - timedelta(days=4)), TODAY)
    assert found.share == pytest.approx(1 / 4)
    assert found.likely == TODAY + timedelta(days=12)


def test_the_interval_is_students():
    """80, 100, 120: mean 100, s = 20, t = 4.303 with two degrees: ± 49.69."""
    found = forecast(Progress(1000, 0, 5, 2), days(80, 100, 120), TODAY)
    assert (found.low, found.high) == pytest.approx((50.31, 149.69), abs=0.01)
    assert found.early < found.likely < found.late
    assert found.late == TODAY + timedelta(days=20)  # 1000 / 50.31 = 19.9


def test_a_pace_that_may_be_nothing_has_no_last_day():
    found = forecast(Progress(1000, 0, 5, 2), days(1, 200), TODAY)
    assert (found.low, found.late) == (0.0, None)
    assert found.early is not None


def test_a_pace_of_a_lifetime_has_no_day_at_all():
    found = forecast(Progress(100_000, 0, 5, 2), days(10, 10), TODAY)
    assert (found.per_day, found.likely, found.early, found.late) == (10, None, None, None)


def test_only_the_last_seven_days_of_work_count():
    found = forecast(Progress(1000, 300, 5, 2), days(*[1] * 20, *[100] * 7), TODAY)
    assert (found.n_days, found.per_day) == (7, 100)


def test_today_is_not_over_and_counts_only_where_no_other_day_does():
    today = Day(TODAY.isoformat(), 5, 1)
    found = forecast(Progress(1000, 0, 5, 2), [*days(100), today], TODAY)
    assert found.per_day == 100
    alone = forecast(Progress(10, 5, 5, 2), [today], TODAY)
    assert (alone.per_day, alone.low, alone.likely) == (5, None, TODAY + timedelta(days=1))


def test_no_forecast_without_work_or_when_all_is_done():
    assert forecast(Progress(10, 0, 5, 0), [], TODAY) is None
    assert forecast(Progress(10, 10, 5, 5), days(100), TODAY) is None
