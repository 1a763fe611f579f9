"""Nested cross-validation sees no vote that it scores, and scores as the formulas say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from vote_tables import planted, table_of

from prefkit.aggregation import AGGREGATORS
from prefkit.aggregation.crossval import N_FOLDS, Splits, evaluate, make_plan
from prefkit.aggregation.scores import (
    bootstrap,
    brier,
    fit_temperature,
    log_loss,
    logit_of,
    reliability,
    surest,
    tempered,
)

FITTED = {name: entry for name, entry in AGGREGATORS if entry.method is not None}
ERRORS = (0.02, 0.1, 0.1, 0.2, 0.3, 0.45)


@pytest.fixture(scope="module")
def world():
    return planted(1, n_items=150, k=4, errors=ERRORS, n_responses=40)


@pytest.fixture(scope="module")
def plan(world):
    return make_plan(world.table)


def turned(plan, votes):
    """The plan with the choice of some votes turned round."""
    table = plan.table
    share, outcome = table.share.copy(), table.outcome.copy()
    share[votes], outcome[votes] = 1 - share[votes], 1 - outcome[votes]
    return replace(plan, table=replace(table, share=share, outcome=outcome, _done={}))


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize("size", [None, 2])
def test_a_held_out_vote_does_not_help_to_predict_itself(plan, name, size):
    fold = plan.fold[plan.table.item]
    own = (fold == 2) & (plan.rank == 1)
    said, other = (
        Splits(found).predict(FITTED[name].method, [size])[0] for found in (plan, turned(plan, own))
    )
    mine = own[plan.targets]
    assert mine.sum() > 20
    assert said[:, mine] == pytest.approx(other[:, mine], abs=1e-9)
    assert np.abs(said[:, ~mine] - other[:, ~mine]).max() > 0.01  # but it helps others


@pytest.mark.parametrize("name", FITTED)
def test_what_chooses_for_a_fold_has_not_seen_the_fold(plan, name):
    held = plan.fold[plan.table.item] == 3
    said, other = (
        Splits(found).predict(FITTED[name].method, [None])[0]
        for found in (plan, turned(plan, held))
    )
    rest = plan.fold[plan.table.item[plan.targets]] != 3
    assert said[3, rest] == pytest.approx(other[3, rest], abs=1e-9)


def test_every_target_is_predicted_for_every_fold(plan):
    said = Splits(plan).predict(FITTED["vote_share"].method, [None, 1])
    assert all(np.isfinite(p).all() and p.shape == (N_FOLDS, len(plan.targets)) for p in said)
    # The vote share learns nothing, so every fold says the same.
    assert all(np.ptp(p, axis=0).max() == 0 for p in said)


def test_folds_hold_whole_comparisons_and_are_even(plan):
    assert len(plan.targets) == len(plan.table) == 600
    assert np.bincount(plan.fold).tolist() == [30] * N_FOLDS


def test_one_vote_looked_at_is_one_vote(plan):
    for size in (1, 2, 3):
        for turn in range(plan.n_rounds):
            seen = plan.seen(turn, size)
            assert not seen[plan.rank == turn].any()
            assert (np.bincount(plan.table.item[seen]) == size).all()


def test_a_second_vote_of_the_same_rater_is_neither_shown_nor_scored():
    table = table_of([0, 0, 0, 1, 1], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0])
    found = make_plan(table)
    assert len(found.table) == 3
    assert len(found.targets) == 2


def test_machines_are_looked_at_and_people_are_scored():
    table = table_of([0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0], machine=[False, True, False, True])
    found = make_plan(table)
    assert len(found.table) == 4
    assert (~found.table.machine[found.targets]).all()
    assert len(make_plan(table.where(table.machine)).targets) == 0


def test_both_bad_is_looked_at_and_not_scored():
    found = make_plan(table_of([0, 0, 0], [0, 1, 2], [0, 3, 1]))
    assert len(found.table) == 3
    assert sorted(found.table.outcome[found.targets]) == [0, 1]


def test_of_many_votes_whole_comparisons_are_drawn_with_their_shared_answers():
    n = 300  # prompts of three answers, all three pairs
    answers = np.arange(n)[:, None] * 3
    first = (answers + np.array([0, 0, 1])).ravel()
    second = (answers + np.array([1, 2, 2])).ravel()
    item = np.repeat(np.arange(3 * n), 2)
    table = table_of(item, np.tile([0, 1], 3 * n), np.zeros(6 * n), first=first, second=second)
    found = make_plan(table, most_votes=600)
    assert 600 <= len(found.table) < 610
    assert (found.table.counts == 2).all()
    times = np.bincount(np.concatenate([found.table.first, found.table.second]))
    assert (times == 2).mean() > 0.98


def test_the_plan_does_not_depend_on_the_order_of_comparisons(world):
    table = world.table
    order = np.random.default_rng(0).permutation(table.n_items)
    back = np.argsort(order)
    other = replace(
        table,
        items=tuple(table.items[index] for index in order),
        item=back[table.item],
        first=table.first[order],
        second=table.second[order],
        _done={},
    )
    one, two = make_plan(table), make_plan(other)
    assert (one.fold == two.fold[back]).all()
    assert np.bincount(one.rank).tolist() == np.bincount(two.rank).tolist()


def test_scores_are_those_of_the_formulas(plan):
    found = evaluate(FITTED, plan)[0]
    targets = plan.targets
    share = plan.table.share[targets]
    # The vote share learns nothing and has no temperature: computed here from scratch.
    p = []
    for target in targets:
        others = (plan.table.item == plan.table.item[target]) & (plan.rank != plan.rank[target])
        p.append((1 + 0.75 * plan.table.share[others].sum()) / (2 + 0.75 * others.sum()))
    p = np.array(p)
    score = found.score("vote_share")
    loss = -(share * np.log(p) + (1 - share) * np.log(1 - p))
    assert score.log_loss.value == pytest.approx(loss.mean())
    assert score.brier.value == pytest.approx(((p - share) ** 2).mean())
    assert score.versus is None
    assert score.temperature == 1.0
    for other in found.methods:
        assert sum(b.n_votes for b in other.bins) == found.n_votes == len(targets)
        assert other.log_loss.low <= other.log_loss.value <= other.log_loss.high
        if other.versus is not None:
            difference = other.log_loss.value - score.log_loss.value
            assert other.versus.value == pytest.approx(difference)


def test_auto_picks_the_best_and_never_the_majority(plan):
    found = evaluate(FITTED, plan)[0]
    assert "majority" not in (found.picked, *found.picks)
    best = min((s for s in found.methods if s.name != "majority"), key=lambda s: s.log_loss.value)
    # Picked by the losses under a temperature of all folds, so only nearly the best here.
    assert found.score(found.picked).log_loss.value <= best.log_loss.value + 0.003
    assert found.auto.log_loss.value <= best.log_loss.value + 0.02
    assert len(found.picks) == N_FOLDS


def test_knowing_the_raters_pays_where_they_differ():
    errors = [0.02, 0.02, 0.05, 0.45, 0.45, 0.9]
    world = planted(3, n_items=500, k=4, errors=errors, n_responses=60, certain=True)
    found = evaluate(FITTED, make_plan(world.table))[0]
    for name in ("dawid_skene", "bradley_terry", "response_bradley_terry"):
        versus = found.score(name).versus
        assert versus is not None
        assert versus.high < 0


def test_without_shared_answers_the_response_method_is_left_out():
    found = evaluate(FITTED, make_plan(planted(2, n_items=80, k=3, errors=ERRORS).table))[0]
    assert found.left_out == {"response_bradley_terry": "no answer is in two comparisons"}


def test_more_votes_are_worth_more(plan):
    one, three = evaluate(FITTED, plan, sizes=(1, 3))
    assert one.n_votes == three.n_votes
    assert three.score("dawid_skene").log_loss.value < one.score("dawid_skene").log_loss.value


def test_bins_by_hand():
    p, share = np.array([0.9, 0.1, 0.52, 0.93]), np.array([1.0, 0.0, 0.5, 0.0])
    low, high = reliability(p, share)
    assert (low.n_votes, low.p, low.share) == (1, pytest.approx(0.52), 0.5)
    assert (high.low, high.high) == pytest.approx((0.9, 0.95))
    assert (high.n_votes, high.p) == (3, pytest.approx((0.9 + 0.9 + 0.93) / 3))
    assert high.share == pytest.approx(2 / 3)


def test_a_tie_is_half_a_vote_for_each_side():
    p = np.array([0.8])
    tie, side = np.array([0.5]), np.array([1.0])
    for score in (brier, lambda p, share: log_loss(logit_of(p), share)):
        assert score(p, tie) == pytest.approx((score(p, side) + score(1 - p, side)) / 2)


def test_the_bootstrap_resamples_comparisons_not_votes():
    item = np.repeat(np.arange(40), 25)
    per_item = np.random.default_rng(0).normal(size=40)
    interval = bootstrap(per_item[item][:, None], item, seed=1)[0]
    wanted = 1.96 * per_item.std() / np.sqrt(40)
    assert interval.value == pytest.approx(per_item.mean())
    assert (interval.high - interval.low) / 2 == pytest.approx(wanted, rel=0.15)


def test_few_votes_never_make_sure():
    p = tempered(np.array([0.9999] * 4), 3.0, np.array([1, 2, 5, 100]))
    assert p == pytest.approx([0.9, 0.95, 0.98, 0.98])
    assert surest(np.array([0]))[0] == pytest.approx(0.9)
    assert tempered(np.array([0.3]), 1.0, np.array([3])) == pytest.approx([0.3])


def test_the_temperature_of_no_vote_is_one():
    assert fit_temperature(np.array([]), np.array([])) == 1.0
