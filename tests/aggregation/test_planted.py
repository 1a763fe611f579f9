"""Raters whose faults are known are found out, and their votes are read accordingly."""

from __future__ import annotations

import numpy as np
import pytest
from vote_tables import planted, table_of

from prefkit.aggregation.bradley_terry import BradleyTerry
from prefkit.aggregation.dawid_skene import DawidSkene
from prefkit.aggregation.responses import ResponseBradleyTerry
from prefkit.aggregation.scores import fit_temperature, logit_of
from prefkit.aggregation.strength import Strength

ERRORS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.2, 0.3, 0.35, 0.4, 0.8)


def test_dawid_skene_finds_error_rates_at_400_votes_each():
    world = planted(1, n_items=500, k=8, errors=ERRORS, certain=True)
    found = DawidSkene().fit(world.table).error_rates()
    # Four standard errors of a share of 400 votes, and what ten virtual votes of the pool move.
    bounds = 4 * np.sqrt(world.errors * (1 - world.errors) / 400) + 0.02
    assert (np.abs(found - world.errors) < bounds).all()
    assert np.abs(found - world.errors).mean() < 0.03


def test_bradley_terry_tells_errors_from_hard_pairs():
    world = planted(2, n_items=3000, k=8, errors=ERRORS, spread=3.0)
    fitted = BradleyTerry().fit(world.table)
    assert fitted.converged
    assert np.abs(fitted.error_rates() - world.errors).max() < 0.06
    assert np.exp(fitted.raters.spread) == pytest.approx(3.0, rel=0.25)


def test_agreement_alone_orders_raters_and_never_flatters_the_careless():
    world = planted(3, n_items=500, k=8, errors=ERRORS, certain=True)
    found = Strength().fit(world.table).error_rates()
    assert np.corrcoef(found, world.errors)[0, 1] > 0.95
    assert np.abs(found - world.errors).max() < 0.12


def test_bradley_terry_finds_who_leans_to_the_left():
    leans = np.array([-1.5, -0.5, 0.0, 0.0, 0.5, 1.5])
    world = planted(4, n_items=1500, k=4, errors=[0.05] * 6, leans=leans)
    raters = BradleyTerry().fit(world.table).raters
    found = raters.left + raters.lean
    assert np.abs(found - leans).max() < 0.35
    assert found[0] < -0.9
    assert found[5] > 0.9


@pytest.mark.parametrize("method", [Strength(), DawidSkene(), BradleyTerry()])
def test_the_word_of_one_who_has_it_the_wrong_way_round_counts_for_the_other_side(method):
    world = planted(5, n_items=600, k=5, errors=[0.05] * 6 + [0.95], certain=True)
    fitted = method.fit(world.table)
    assert fitted.error_rates()[6] > 0.7
    alone = table_of([0, 1], [6, 0], [0, 0], n_items=600, n_raters=7)
    p_a = fitted.p_a(alone)
    assert p_a[0] < 0.3  # the adversary said a
    assert p_a[1] > 0.7


@pytest.mark.parametrize("method", [Strength(), DawidSkene(), BradleyTerry()])
def test_one_more_vote_for_a_of_a_sound_rater_raises_p(method):
    world = planted(6, n_items=400, k=4, errors=ERRORS[:6])
    fitted = method.fit(world.table)
    rater = np.arange(6)
    for before in ([], [0], [1], [0, 1, 1]):
        one = 0.5
        if before:
            votes = table_of([0] * len(before), rater[: len(before)], before, n_items=1, n_raters=6)
            one = fitted.p_a(votes)[0]
        for more in range(6):
            votes = table_of([0] * (len(before) + 1), [*rater[: len(before)], more],
                             [*before, 0], n_items=1, n_raters=6)  # fmt: skip
            assert fitted.p_a(votes)[0] > one


def test_a_careful_rater_outweighs_a_careless_one():
    world = planted(7, n_items=800, k=5, errors=[0.02, 0.02, 0.02, 0.4, 0.4, 0.4], certain=True)
    split = table_of([0, 0], [0, 3], [0, 1], n_items=800, n_raters=6)
    for method in (Strength(), DawidSkene(), BradleyTerry()):
        assert method.fit(world.table).p_a(split)[0] > 0.65


def test_shared_answers_carry_what_single_votes_cannot():
    world = planted(8, n_items=1500, k=2, errors=[0.1] * 8, n_responses=60, spread=2.0)
    truth = 1 / (1 + np.exp(-world.scores))
    by_answer = ResponseBradleyTerry().fit(world.table).p_a(world.table)
    by_pair = BradleyTerry().fit(world.table).p_a(world.table)
    error = [np.abs(p - truth).mean() for p in (by_answer, by_pair)]
    assert error[0] < 0.6 * error[1]
    assert np.corrcoef(logit_of(by_answer), world.scores)[0, 1] > 0.93


def test_votes_on_other_pairs_speak_for_a_pair_nobody_has_judged():
    item, outcome = [0] * 6 + [1] * 6, [0] * 12  # x beats y, y beats z
    table = table_of(item, [0, 1, 2] * 4, outcome, n_items=3, first=[0, 1, 0], second=[1, 2, 2])
    p_a = ResponseBradleyTerry().fit(table).p_a(table)
    assert p_a[2] > p_a[0] > 0.7  # x against z: further apart than x and y
    assert BradleyTerry().fit(table).p_a(table)[2] == pytest.approx(0.5)


def test_the_temperature_undoes_a_known_over_confidence():
    rng = np.random.default_rng(9)
    logit = rng.normal(0, 1.5, 20_000)
    share = (rng.random(20_000) < 1 / (1 + np.exp(-logit))).astype(float)
    assert fit_temperature(2.5 * logit, share) == pytest.approx(0.4, abs=0.02)


def test_no_vote_means_an_even_chance_everywhere():
    empty = table_of([0], [0], [0], n_items=4).where([])
    for method in (Strength(), DawidSkene(), BradleyTerry(), ResponseBradleyTerry()):
        assert method.fit(empty).p_a(empty) == pytest.approx([0.5] * 4)


def test_sixty_votes_on_a_pair_are_read_as_their_share():
    world = planted(10, n_items=400, k=5, errors=[0.01] * 8, spread=4.0)
    fitted = BradleyTerry().fit(world.table)
    many = table_of([0] * 60, np.arange(60) % 8, [0] * 45 + [1] * 15, n_items=1, n_raters=8)
    assert fitted.p_a(many)[0] == pytest.approx(0.75, abs=0.04)
