"""Best checkpoint and patience are functions of the evaluations alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.training.early_stop import Standing, standing

VALUES = st.lists(st.none() | st.floats(-5, 5), max_size=20)


def lines(values, metric="loss"):
    return [{"step": 10 * (i + 1), metric: value} for i, value in enumerate(values)]


@given(VALUES)
def test_the_best_is_the_first_lowest_loss(values):
    given_values = [value for value in values if value is not None]
    now = standing(lines(values))
    if not given_values:
        assert (now.best, now.best_step) == (None, None)
        return
    assert now.best == min(given_values)
    assert now.best_step == 10 * (values.index(now.best) + 1)


@given(VALUES)
def test_more_is_better_for_accuracy(values):
    up = standing(lines(values, "reward_accuracy"), metric="reward_accuracy", patience=2)
    flipped = [None if value is None else -value for value in values]
    down = standing(lines(flipped), patience=2)
    assert up.best_step == down.best_step
    assert (up.n_since, up.stop) == (down.n_since, down.stop)


@given(VALUES, st.integers(1, 4))
def test_a_run_stops_once_the_last_improvement_is_patience_evaluations_old(values, patience):
    now = standing(lines(values), patience=patience)
    since = len(values)
    for index in range(len(values)):
        earlier = [v for v in values[:index] if v is not None]
        if values[index] is not None and all(values[index] < v for v in earlier):
            since = len(values) - 1 - index
    assert now.n_since == since
    assert now.stop == (since >= patience)
    assert not standing(lines(values)).stop


def test_an_improvement_below_min_delta_is_kept_as_best_but_spends_patience():
    values = [1.0, 0.99, 0.98]
    assert standing(lines(values), patience=2, min_delta=0.05) == Standing(30, 0.98, 2, True)
    assert standing(lines(values), patience=2) == Standing(30, 0.98, 0, False)


def test_small_improvements_add_up_past_min_delta():
    assert standing(lines([1.0, 0.97, 0.94]), min_delta=0.05).n_since == 0


@pytest.mark.parametrize("metric", ["loss", "ece", "brier", "kl", "nll_per_token"])
def test_less_is_better_for_losses(metric):
    assert standing(lines([2.0, 1.0, 3.0], metric), metric=metric).best == 1.0
