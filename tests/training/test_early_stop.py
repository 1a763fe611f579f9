"""Best checkpoint and patience are functions of the evaluations alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prefkit.training.early_stop import standing

VALUES = st.lists(st.none() | st.floats(-5, 5), max_size=20)


def lines(values):
    return [{"step": 10 * (i + 1), "loss": value} for i, value in enumerate(values)]


@given(VALUES)
def test_the_best_is_the_first_lowest_loss(values):
    given_values = [value for value in values if value is not None]
    now = standing(lines(values))
    if not given_values:
        assert (now.best, now.best_step) == (None, None)
        return
    assert now.best == min(given_values)
    assert now.best_step == 10 * (values.index(now.best) + 1)


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
