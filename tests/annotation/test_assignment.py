"""Schedules: sides balanced for each rater, gold and repeats at their rates, all from a count."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.annotation.assignment import Assignment, in_slot
from prefkit.annotation.settings import AnnotateSettings
from prefkit.settings import parse_settings
from prefkit.store.chain import RaterRow
from prefkit.store.leasing import GOLD, IN_ORDER, SLICE

NAMES = st.text(min_size=1, max_size=8)


def row(rater, n):
    return RaterRow(rater, n_served=n)


@given(salt=NAMES, rater=NAMES, start=st.integers(0, 10_000))
def test_any_four_in_a_block_have_two_on_each_side(salt, rater, start):
    given_sides = [Assignment(salt).side(row(rater, 4 * start + place)) for place in range(4)]
    assert sorted(given_sides) == ["a", "a", "b", "b"]


def test_sides_differ_between_raters_and_stores_and_cannot_be_guessed_from_the_last():
    def sides(salt, rater):
        return "".join(Assignment(salt).side(row(rater, n)) for n in range(400))

    assert len({sides("s", "kim"), sides("s", "lee"), sides("t", "kim")}) == 3
    blocks = Counter(sides("s", "kim")[n : n + 4] for n in range(0, 400, 4))
    assert len(blocks) == 6  # every order of two and two


@given(salt=NAMES, rater=NAMES, block=st.integers(0, 500), size=st.integers(2, 50))
def test_each_block_has_exactly_one_slot(salt, rater, block, size):
    hits = [in_slot("gold", salt, rater, block * size + n, 1 / size) for n in range(size)]
    assert sum(hits) == 1


def test_a_rate_of_nothing_has_no_slot():
    assert not any(in_slot("gold", "s", "kim", n, 0.0) for n in range(1000))


def test_gold_comes_first_in_its_slots_and_only_where_there_is_a_file():
    settings = parse_settings(AnnotateSettings, {"gold": "gold.jsonl", "gold_rate": 0.05})
    firsts = Counter(Assignment.of(settings, "s").lanes(row("kim", n))[0] for n in range(2000))
    assert firsts == {GOLD: 100, IN_ORDER: 1900}
    without = Assignment.of(parse_settings(AnnotateSettings, {}), "s")
    assert {without.lanes(row("kim", n)) for n in range(200)} == {(IN_ORDER, SLICE)}


@pytest.mark.parametrize("words", [{"order": "uncertain"}, {"overlap": {"most": 3}}])
def test_the_random_slice_is_drawn_from_at_its_rate_and_the_other_lane_is_the_fallback(words):
    settings = parse_settings(AnnotateSettings, {**words, "random_slice": 0.25})
    lanes = Counter(Assignment.of(settings, "s").lanes(row("kim", n)) for n in range(4000))
    assert set(lanes) == {(SLICE, IN_ORDER), (IN_ORDER, SLICE)}
    assert 900 < lanes[SLICE, IN_ORDER] < 1100


def test_a_plan_holds_two_and_its_repeats_come_at_their_rate():
    settings = parse_settings(AnnotateSettings, {"repeat_rate": 0.1})
    plan = Assignment.of(settings, "s").plan(timedelta(minutes=3))
    assert (plan.want, plan.ttl) == (2, timedelta(minutes=3))
    assert sum(plan.repeat_due(row("kim", n)) for n in range(1000)) == 100


@pytest.mark.parametrize("rate", [0.03, 0.05, 0.15, 0.3, 0.4, 0.45, 0.5])
def test_of_a_thousand_tasks_as_many_are_gold_as_the_rate_says(rate):
    hits = sum(in_slot("gold", "s", "kim", n, rate) for n in range(1000))
    assert hits == round(1000 * rate)
