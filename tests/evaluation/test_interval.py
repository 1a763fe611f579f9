"""The interval covers what it says it covers, ties included."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from prefkit.evaluation import score_interval

OUTCOMES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=60)


@given(OUTCOMES)
def test_the_interval_lies_in_0_to_1_has_a_width_and_holds_the_mean(outcomes):
    low, high = score_interval(outcomes)
    assert 0.0 <= low < high <= 1.0
    assert low <= sum(outcomes) / len(outcomes) + 1e-12
    assert high >= sum(outcomes) / len(outcomes) - 1e-12


@given(OUTCOMES)
def test_swapping_the_sides_mirrors_the_interval(outcomes):
    low, high = score_interval(outcomes)
    mirrored = score_interval([1 - x for x in outcomes])
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=80))
def test_without_ties_it_is_wilsons_interval(outcomes):
    wilson = binomtest(int(sum(outcomes)), len(outcomes)).proportion_ci(method="wilson")
    assert score_interval(outcomes) == pytest.approx((wilson.low, wilson.high), abs=1e-9)


@pytest.mark.parametrize("n", [1, 2, 10])
@pytest.mark.parametrize("same", [0.0, 0.5, 1.0])
def test_equal_outcomes_at_small_n_still_leave_doubt(same, n):
    low, high = score_interval([same] * n)
    assert high - low > 0.1


def test_ties_narrow_the_interval():
    decided = score_interval([1.0, 0.0] * 50)
    tied = score_interval([1.0, 0.0] * 25 + [0.5] * 50)
    assert tied[1] - tied[0] < decided[1] - decided[0]


@pytest.mark.parametrize("n", [30, 250])
@pytest.mark.parametrize(
    ("win", "tie"), [(0.5, 0.0), (0.35, 0.3), (0.6, 0.25), (0.1, 0.8), (0.85, 0.1), (0.05, 0.1)]
)
def test_coverage_is_close_to_95_percent(n, win, tie):
    """2,000 draws: a share of 0.95 has a standard deviation of 0.005, and outcomes that come in
    halves make exact coverage swing around the nominal level. Many ties at small n are covered
    more often than promised (the outcomes added to doubt the ties widen it), never less."""
    rng = random.Random(f"coverage {n} {win} {tie}")
    truth, runs, covered = win + tie / 2, 2000, 0
    for _ in range(runs):
        drawn = rng.choices([1.0, 0.5, 0.0], [win, tie, 1 - win - tie], k=n)
        low, high = score_interval(drawn)
        covered += low <= truth <= high
    assert 0.93 <= covered / runs <= (0.97 if n >= 250 else 1.0)


@pytest.mark.parametrize("outcomes", [[], [1.5], [-0.1], [float("nan")]])
def test_no_or_impossible_outcomes_are_refused(outcomes):
    with pytest.raises(ValueError):
        score_interval(outcomes)
