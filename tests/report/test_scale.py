"""Axes: ticks are round, cover the data and rise; thinning keeps the peaks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.report.scale import MOST_POINTS, Axis, label, thin, ticks

numbers = st.floats(-1e9, 1e9).filter(lambda x: x == 0 or abs(x) > 1e-6)


@given(numbers, numbers, st.integers(2, 10))
def test_ticks_cover_the_range_and_rise_evenly(one, other, wanted):
    low, high = sorted((one, other))
    found = ticks(low, high, wanted)
    slack = 1e-6 * max(abs(low), abs(high), 1.0)
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    assert all(a < b for a, b in pairwise(found))
    assert len(found) <= 2 * wanted + 3


@given(st.floats(0, 100), st.floats(0, 100))
def test_an_axis_is_linear_and_meets_its_ends(a, b):
    axis = Axis(0, 100, 50, 250)
    assert axis(0) == 50
    assert axis(100) == 250
    assert (axis(a) <= axis(b)) == (a <= b) or abs(axis(a) - axis(b)) <= 0.1


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5000))
def test_thinning_keeps_both_ends_and_both_peaks(values):
    points = [(float(i), y) for i, y in enumerate(values)]
    kept = thin(points)
    assert len(kept) <= MOST_POINTS
    assert set(kept) <= set(points)
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert max(y for _, y in kept) == max(values)
    assert min(y for _, y in kept) == min(values)
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.25, "0.25"), (1240, "1\u202f240"), (1_234_567, "1\u202f234\u202f567"),
     (0.693147, "0.6931"), (1.2e-5, "1.2e-05"), (3.0, "3")],
)  # fmt: skip
def test_a_number_is_short_and_a_count_is_whole(value, text):
    assert label(value) == text


def test_a_share_is_shown_in_per_cent():
    assert label(0.25, percent=True) == "25 %"


@pytest.mark.parametrize("value", [1e-12, 3e-20, 5e9])
def test_ticks_of_one_value_differ_however_small_it_is(value):
    """A learning rate of 1e-12 had ticks that were all rounded to the same number."""
    marks = ticks(value, value)
    assert marks[0] < value < marks[-1]
    assert marks == sorted(set(marks))
