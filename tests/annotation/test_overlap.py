"""Adaptive overlap stops where it is decided, at the most, and never lowers k."""

from __future__ import annotations

import random
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.annotation.overlap import certainty, wanted, wanting
from prefkit.annotation.settings import Overlap
from prefkit.settings import parse_settings

CHOICES = st.lists(st.sampled_from(["a", "b", "tie", "both_bad", "invalid"]), max_size=12)
SWAP = {"a": "b", "b": "a"}


def overlap(**values):
    return parse_settings(Overlap, values)


@given(st.integers(0, 12), st.integers(0, 12))
def test_certainty_is_the_binomial_tail(for_a, for_b):
    """For whole numbers the tail of a Beta at a half is that of a binomial (Abramowitz 26.5.24)."""
    n = for_a + for_b + 1
    p_b = sum(comb(n, j) for j in range(for_a + 1, n + 1)) / 2**n
    assert certainty(for_a, for_b) == pytest.approx(max(p_b, 1 - p_b))


@given(CHOICES, st.integers(1, 8), st.integers(1, 8), st.floats(0.51, 0.99))
def test_k_grows_by_one_at_most_up_to_most_and_sides_do_not_matter(choices, k, most, sure):
    settings = overlap(most=most, sure=sure)
    found = wanted(choices, k, settings)
    assert found in (k, k + 1)
    assert found <= max(k, most)
    assert found == wanted([SWAP.get(c, c) for c in reversed(choices)], k, settings)
    if len(choices) < k:
        assert found == k


def test_a_split_asks_for_more_and_agreement_does_not():
    settings = overlap(most=9, sure=0.9)
    assert wanted(["a", "b"], 2, settings) == 3
    assert wanted(["a", "a"], 2, settings) == 3  # P = 7/8
    assert wanted(["a", "a", "a"], 3, settings) == 3  # P = 15/16
    assert wanted(["a", "b", "tie"], 9, settings) == 9


def test_a_pair_that_most_find_unusable_is_decided():
    settings = overlap(most=9)
    assert wanted(["both_bad", "invalid", "a"], 3, settings) == 3
    assert wanted(["both_bad"], 1, settings) == 1


def test_without_most_nothing_is_adaptive():
    assert wanting(overlap()) is None


def test_fewer_votes_find_as_many_better_sides_as_a_fixed_number():
    """Planted: 2,000 pairs, P(a vote is for the better side) uniform in (½, 1)."""
    settings, rng = overlap(most=9, sure=0.9), random.Random(5)
    right = {"adaptive": 0, "fixed": 0}
    n_votes = {"adaptive": 0, "fixed": 0}
    for _ in range(2000):
        p = rng.uniform(0.5, 1)
        votes = ["a" if rng.random() < p else "b" for _ in range(9)]
        k = 1
        while (more := wanted(votes[:k], k, settings)) > k:
            k = more
        for name, n in (("adaptive", k), ("fixed", 7)):
            lead = votes[:n].count("a") - votes[:n].count("b")
            right[name] += lead > 0 or (lead == 0 and rng.random() < 0.5)
            n_votes[name] += n
    assert right["adaptive"] >= right["fixed"]
    assert n_votes["adaptive"] < 0.85 * n_votes["fixed"]
