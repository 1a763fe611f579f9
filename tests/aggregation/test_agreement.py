"""Agreement against published worked examples, other implementations and the definitions."""

from __future__ import annotations

import importlib.util
import itertools

import numpy as np
import pandas as pd
import pytest
from components import require_component
from hypothesis import given
from hypothesis import strategies as st
from real_data import real_data
from sklearn.metrics import cohen_kappa_score
from vote_tables import planted, table_of

from prefkit.aggregation.agreement import (
    IN_COMMON,
    agreement,
    gwet_ac1,
    krippendorff_alpha,
    quadratic_kappa,
    values,
)
from prefkit.aggregation.interval import bootstrap

# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", part C: four observers and
# twelve units; 0 stands for no value. irrCAC ships the same as cac.raw4raters.
FOUR = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
)
# Gwet's cont3x3abstractors (irrCAC): two abstractors, a hundred patients.
ABSTRACTORS = np.array([[13, 0, 0], [0, 20, 7], [0, 4, 56]])


def listed(matrix):
    """value, item, rater of a matrix with a row a rater, 0 for none."""
    rater, item = np.nonzero(matrix)
    return matrix[rater, item].astype(float), item, rater


def from_cells(cells):
    """The values of two raters out of their table of counts."""
    pairs = [pair for pair, n in np.ndenumerate(cells) for _ in range(n)]
    x, y = np.array(pairs).T
    return x, y


def naive_alpha(value, item, level):
    """α from the definition, vote by vote: 1 − mean observed δ² over mean expected δ²."""
    by_item = {i: [v for v, j in zip(value, item, strict=True) if i == j] for i in set(item)}
    units = [found for found in by_item.values() if len(found) >= 2]
    every = [v for found in units for v in found]
    kinds = sorted(set(every))

    def apart(v, w):
        if level == "nominal":
            return float(v != w)
        if level == "interval":
            return (v - w) ** 2
        low, high = sorted((v, w))
        between = sum(every.count(g) for g in kinds if low <= g <= high)
        return (between - (every.count(v) + every.count(w)) / 2) ** 2

    observed = sum(
        apart(v, w) / (len(unit) - 1) for unit in units for v, w in itertools.permutations(unit, 2)
    )
    expected = sum(apart(v, w) for v, w in itertools.permutations(every, 2))
    n = len(every)
    return 1 - (observed / n) / (expected / (n * (n - 1))) if expected else None


def naive_ac1(category, item, n_categories):
    units = [[c for c, j in zip(category, item, strict=True) if i == j] for i in set(item)]
    several = [unit for unit in units if len(unit) >= 2]
    if not several:
        return None
    agreed = [np.mean([v == w for v, w in itertools.permutations(unit, 2)]) for unit in several]
    p = [np.mean([unit.count(c) / len(unit) for unit in units]) for c in range(n_categories)]
    chance = sum(share * (1 - share) for share in p) / (n_categories - 1)
    return (np.mean(agreed) - chance) / (1 - chance)


@pytest.mark.parametrize(
    ("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_of_krippendorffs_example_is_what_he_prints(level, published):
    value, item, _ = listed(FOUR)
    assert krippendorff_alpha(value, item, level) == pytest.approx(published, abs=5e-4)


def test_alpha_and_ac1_are_irrcacs_to_five_digits():
    """irrCAC 1.0's overview prints 0.74342 and 0.77544 for cac.raw4raters, and 0.8493305 for the
    AC1 of cont3x3abstractors."""
    value, item, _ = listed(FOUR)
    assert krippendorff_alpha(value, item, "nominal") == pytest.approx(0.74342, abs=5e-6)
    assert gwet_ac1(value.astype(int) - 1, item, 5) == pytest.approx(0.77544, abs=5e-6)
    x, y = from_cells(ABSTRACTORS)
    both, patient = np.concatenate([x, y]), np.tile(np.arange(len(x)), 2)
    assert gwet_ac1(both, patient, 3) == pytest.approx(0.8493305, abs=5e-8)


def test_kappa_of_two_categories_is_cohens_by_hand():
    """Cells 20 5 / 10 15: agreed 35/50 = .7, by chance .5 · .6 + .5 · .4 = .5, so κ = .2/.5."""
    x, y = from_cells(np.array([[20, 5], [10, 15]]))
    assert quadratic_kappa(x.astype(float), y.astype(float)) == pytest.approx(0.4)


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, 200)
    y = np.clip(x + rng.integers(-2, 3, 200), -3, 3)
    wanted = cohen_kappa_score(x, y, weights="quadratic", labels=range(-3, 4))
    assert quadratic_kappa(x.astype(float), y.astype(float)) == pytest.approx(wanted, abs=1e-12)


RATINGS = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 5)), min_size=1, max_size=30)


@given(RATINGS, st.sampled_from(["nominal", "ordinal", "interval"]))
def test_alpha_is_its_definition(ratings, level):
    value, item = (np.array(column) for column in zip(*ratings, strict=True))
    found, wanted = krippendorff_alpha(value.astype(float), item, level), None
    wanted = naive_alpha(value.tolist(), item.tolist(), level)
    assert (found is None) == (wanted is None)
    if wanted is not None:
        assert found == pytest.approx(wanted, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=30))
def test_ac1_is_its_definition(ratings):
    category, item = (np.array(column) for column in zip(*ratings, strict=True))
    wanted = naive_ac1(category.tolist(), item.tolist(), 4)
    assert gwet_ac1(category, item, 4) == (None if wanted is None else pytest.approx(wanted))


def test_alpha_is_crowd_kits_for_its_distances():
    if importlib.util.find_spec("crowdkit") is None:
        require_component("crowd-kit", "it comes with prefkit[dev]")
    from crowdkit.metrics.data import alpha_krippendorff

    value, item, rater = listed(FOUR)
    data = pd.DataFrame({"task": item, "worker": rater, "label": value})
    assert krippendorff_alpha(value, item, "nominal") == pytest.approx(alpha_krippendorff(data))
    squares = alpha_krippendorff(data, distance=lambda v, w: (v - w) ** 2)
    assert krippendorff_alpha(value, item, "interval") == pytest.approx(squares)


def graded(seed=0, n_items=60, k=3, n_raters=5):
    """A table whose raters see a common value and miss it a little."""
    rng = np.random.default_rng(seed)
    item = np.repeat(np.arange(n_items), k)
    rater = rng.permuted(np.tile(np.arange(n_raters), (n_items, 1)), axis=1)[:, :k].ravel()
    truth = rng.integers(-3, 4, n_items)[item]
    value = np.clip(truth + rng.integers(-1, 2, len(item)), -3, 3)
    outcome = np.where(value > 0, 0, np.where(value < 0, 1, 2))
    return table_of(item, rater, outcome, level=np.abs(value)), value.astype(float)


def test_the_value_of_a_vote_is_its_strength_towards_a():
    table, value = graded()
    found, scale = values(table)
    assert scale == "graded"
    assert found.tolist() == value.tolist()
    plain, scale = values(table_of([0, 0, 1], [0, 1, 0], [0, 1, 2], level=[3, -1, 0]))
    assert (plain.tolist(), scale) == ([1.0, -1.0, 0.0], "sides")


def test_all_three_measures_of_a_table():
    table, value = graded()
    found = agreement(table)
    assert (found.n_comparisons, found.n_votes, found.scale, found.why) == (60, 180, "graded", {})
    assert found.alpha.value == pytest.approx(krippendorff_alpha(value, table.item))
    assert found.ac1.value == pytest.approx(gwet_ac1(table.outcome, table.item, 4))
    for estimate in (found.alpha, found.kappa, found.ac1):
        assert -1 <= estimate.low < estimate.value < estimate.high <= 1
    assert found.alpha.value > 0.7


def test_kappa_of_many_raters_weighs_each_two_by_the_disagreement_of_chance():
    table, value = graded(n_items=200)
    observed = expected = 0.0
    for one, other in itertools.combinations(range(5), 2):
        mine = {i: v for i, v, r in zip(table.item, value, table.rater, strict=True) if r == one}
        theirs = {
            i: v for i, v, r in zip(table.item, value, table.rater, strict=True) if r == other
        }
        common = sorted(mine.keys() & theirs.keys())
        assert len(common) >= IN_COMMON
        x, y = np.array([mine[i] for i in common]), np.array([theirs[i] for i in common])
        kappa = quadratic_kappa(x, y)
        chance = ((x[:, None] - y[None, :]) ** 2).mean() * len(common)
        observed += (1 - kappa) * chance
        expected += chance
    assert agreement(table).kappa.value == pytest.approx(1 - observed / expected)


def test_kappa_needs_raters_with_enough_in_common():
    few = graded(n_items=IN_COMMON - 1, k=2, n_raters=2)[0]
    found = agreement(few)
    assert found.kappa is None
    assert found.why == {"kappa": f"no two raters have {IN_COMMON} comparisons in common"}
    assert agreement(graded(n_items=IN_COMMON, k=2, n_raters=2)[0]).kappa is not None


def test_unanimous_votes_have_no_alpha_and_no_kappa_and_say_why():
    table = table_of(np.repeat(np.arange(20), 2), np.tile([0, 1], 20), np.zeros(40, int))
    found = agreement(table)
    assert (found.alpha, found.kappa) == (None, None)
    assert found.why["alpha"] == "all votes say the same, so chance alone would agree as well"
    assert found.ac1.value == 1.0


def test_single_votes_and_no_votes_have_no_agreement():
    alone = table_of([0, 1, 2], [0, 1, 2], [0, 1, 2])
    for table in (alone, alone.where(np.zeros(3, dtype=bool))):
        found = agreement(table)
        assert (found.alpha, found.kappa, found.ac1) == (None, None, None)
        assert set(found.why.values()) == {"no comparison has two votes"}
        assert (found.n_comparisons, found.n_votes) == (0, 0)


def test_swapping_a_and_b_and_the_order_of_votes_change_nothing():
    table, _ = graded()
    there = agreement(table)
    other = np.array([1, 0, 2, 3])[table.outcome]
    order = np.random.default_rng(1).permutation(len(table))
    shuffled = table_of(
        table.item[order], table.rater[order], other[order], level=table.level[order]
    )
    back = agreement(shuffled)
    for name in ("alpha", "kappa", "ac1"):
        one, two = getattr(there, name), getattr(back, name)
        assert (one.value, one.low, one.high) == pytest.approx((two.value, two.low, two.high))


def test_the_bootstrap_is_the_statistic_of_each_resample():
    """Each resample is built vote by vote, every drawn comparison an item of its own."""
    table, value = graded(n_items=12)
    n = 50
    drawn = np.random.default_rng(3).integers(0, 12, (n, 12))
    alphas = []
    for picks in drawn:
        rows = [(v, at) for at, i in enumerate(picks) for v in value[table.item == i]]
        v, item = (np.array(column) for column in zip(*rows, strict=True))
        alphas.append(krippendorff_alpha(v, item))
    from prefkit.aggregation.agreement import _alpha_of, _coincidences

    parts = _coincidences(value, table.item)
    found = bootstrap(parts, _alpha_of(value, "ordinal"), seed=3, n=n)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(alphas, [2.5, 97.5])))


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """α of a very large draw is the truth; 95 % intervals of 200 small draws, bar chance."""
    truth = krippendorff_alpha(*_drawn(0, 20_000))
    held = 0
    for seed in range(1, 201):
        value, item = _drawn(seed, 150)
        table = table_of(item, np.arange(len(item)), np.where(value > 0, 0, 1))
        found = agreement(table, seed=seed).alpha
        held += found.low <= truth <= found.high
    assert 180 <= held <= 198


def _drawn(seed, n_items):
    rng = np.random.default_rng(seed)
    item = np.repeat(np.arange(n_items), 3)
    p = rng.beta(0.7, 0.7, n_items)[item]
    return np.where(rng.random(len(item)) < p, 1.0, -1.0), item


def test_no_interval_of_a_single_comparison():
    found = agreement(table_of([0, 0, 0], [0, 1, 2], [0, 1, 0]))
    assert (found.alpha.low, found.alpha.high) == (None, None)
    assert found.alpha.value == pytest.approx(0.0)


def test_100_000_votes_take_seconds_not_minutes():
    import time

    table = planted(1, n_items=33_334, k=3, errors=np.linspace(0.02, 0.4, 50)).table
    start = time.thread_time()
    found = agreement(table)
    assert time.thread_time() - start < 15
    assert found.kappa is not None


@pytest.mark.parametrize("name", ["ukp", "mtbench", "scratchplot"])
def test_real_votes_agree_with_the_other_implementations(name):
    for file in ("ukpconvarg1_dev_votes", "mtbench_dev_votes", "scratchplot_pair_votes"):
        real_data(f"multi/{file}.parquet")
    from benchmarks import aggregate as real
    from prefkit.aggregation import counted_votes
    from prefkit.aggregation.table import vote_table

    comparisons, votes = getattr(real, f"load_{name}")()
    table = vote_table(comparisons, counted_votes(comparisons, votes).votes)
    table = table.where(~table.machine)
    value, _ = values(table)
    found = agreement(table)
    assert 0 < found.alpha.low < found.alpha.value < found.alpha.high < 1
    several = table.counts[table.item] >= 2
    wanted = naive_ac1(table.outcome.tolist(), table.item.tolist(), 4) if name != "ukp" else None
    if wanted is not None:
        assert found.ac1.value == pytest.approx(wanted)
    if importlib.util.find_spec("crowdkit") is None:
        require_component("crowd-kit", "it comes with prefkit[dev]")
    from crowdkit.metrics.data import alpha_krippendorff

    frame = pd.DataFrame(
        {"task": table.item[several], "worker": table.rater[several], "label": value[several]}
    ).drop_duplicates(["task", "worker"])
    distinct = table_of(frame.task, frame.worker, np.zeros(len(frame), int))
    assert len(distinct) == len(frame)
    ours = krippendorff_alpha(frame.label.to_numpy(), frame.task.to_numpy(), "nominal")
    assert ours == pytest.approx(alpha_krippendorff(frame))
