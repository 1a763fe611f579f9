"""Metrics agree with independent implementations and say None where rows determine nothing."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from run_facts import pair_facts, step_facts
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, roc_auc_score

from prefkit.training.facts import EvaluationFacts, RowFacts, SampledAnswers
from prefkit.training.metrics import (
    agreement,
    calibration,
    correlation,
    evaluation_line,
    row_metrics,
    sampled_kl,
    sigmoid,
    step_line,
)
from prefkit.training.objective import make_objective
from prefkit.training.settings import TrainSettings

MARGINS = arrays(np.float64, 12, elements=st.floats(-20, 20))
LABELS = arrays(np.float64, 12, elements=st.sampled_from([0.5, 0.6, 0.75, 0.9, 1.0]))
ANY = st.floats(allow_nan=False, allow_infinity=False, width=32)


def test_calibration_agrees_with_scikit_learn_on_hard_labels():
    rng = np.random.default_rng(0)
    margin, p = rng.normal(size=500) * 2, (rng.random(500) < 0.7).astype(float)
    said = 1 / (1 + np.exp(-margin))
    found = calibration(margin, p)
    assert found.brier == pytest.approx(brier_score_loss(p, said), abs=1e-12)
    true, mean = calibration_curve(p, said, n_bins=10, strategy="uniform")
    counts, _ = np.histogram(said, bins=10, range=(0, 1))
    ece = np.sum(counts[counts > 0] * np.abs(true - mean)) / 500
    assert found.ece == pytest.approx(ece, abs=1e-12)
    assert [n for n, _, _ in found.bins] == counts[counts > 0].tolist()


@given(arrays(np.float64, 9, elements=st.floats(0.001, 0.999)))
def test_a_policy_at_the_optimum_of_soft_dpo_is_calibrated(p):
    found = calibration(np.log(p) - np.log1p(-p), p)
    assert found.ece == pytest.approx(0, abs=1e-9)
    assert found.brier == pytest.approx(0, abs=1e-9)


@given(MARGINS, LABELS)
def test_swapping_the_sides_and_the_label_changes_no_judgement(margin, p):
    one, other = row_metrics(pair_facts(margin, p)), row_metrics(pair_facts(-margin, 1 - p))
    assert one["reward_accuracy"] == other["reward_accuracy"]
    assert one["brier"] == pytest.approx(other["brier"], abs=1e-12)
    assert one["reward_margin"] == pytest.approx(-other["reward_margin"], abs=1e-9)


@given(MARGINS, LABELS, st.randoms(use_true_random=False))
def test_the_order_of_rows_says_nothing(margin, p, random):
    order = list(range(len(p)))
    random.shuffle(order)
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, 50, (len(p), 2))
    one = row_metrics(pair_facts(margin, p, lengths=lengths))
    other = row_metrics(pair_facts(margin[order], p[order], lengths=lengths[order]))
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert other[key] == (None if value is None else pytest.approx(value, abs=1e-9)), key


def test_accuracy_counts_ties_half_and_leaves_even_labels_out():
    margin, p = np.array([1.0, -1.0, 0.0, 3.0]), np.array([1.0, 0.9, 0.8, 0.5])
    assert agreement(margin, p) == ((1 + 0 + 0.5) / 3, 3)
    assert agreement(margin, np.full(4, 0.5)) == (None, 0)


@given(arrays(np.float64, 8, elements=st.floats(-100, 100)), st.floats(0.1, 50), st.floats(-9, 9))
def test_correlation_is_pearson_and_scale_free(x, scale, shift):
    y = np.sin(np.arange(8.0))
    found = correlation(x, y)
    if np.ptp(x) <= 1e-4 * (1 + np.abs(x).max()):
        return
    assert found == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-6)
    assert correlation(scale * x + shift, y) == pytest.approx(found, abs=1e-6)
    assert correlation(x, -y) == pytest.approx(-found, abs=1e-9)


def test_correlation_of_what_does_not_vary_is_none():
    assert correlation(np.full(9, 0.1), np.arange(9.0)) is None
    # 0.1 + 0.2 − 0.3 is rounding, not variation.
    assert correlation(np.array([0.1 + 0.2, 0.3, 0.3, 0.3]), np.arange(4.0)) is None
    assert correlation(np.array([1.0, 2.0]), np.array([1.0, 2.0])) is None


def test_length_correlation_is_between_extra_tokens_and_the_margin():
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 80, (40, 2))
    longer = lengths[:, 0] - lengths[:, 1]
    margin, p = 0.05 * longer + rng.normal(size=40), rng.choice([0.6, 0.8, 1.0], 40)
    found = row_metrics(pair_facts(margin, p, lengths=lengths))
    assert found["length_margin_corr"] == pytest.approx(stats.pearsonr(longer, margin).statistic)
    assert found["length_p_corr"] == pytest.approx(stats.pearsonr(longer, p).statistic)


def unpaired(reward, p, beta=0.5):
    n = len(p)
    # Column 1 is the mismatched answer of KTO, which is no answer of its row.
    policy = np.stack([np.asarray(reward) / beta, np.full(n, 1e6)], 1)
    return RowFacts(
        [str(i) for i in range(n)], "unpaired", np.asarray(p), np.ones(n), np.zeros(n),
        policy, np.zeros((n, 2)), np.full((n, 2), 4), beta,
    )  # fmt: skip


def test_accuracy_of_unpaired_answers_is_the_area_under_the_curve():
    rng = np.random.default_rng(4)
    reward, p = np.round(rng.normal(size=60), 1), (rng.random(60) < 0.4).astype(float)
    found = row_metrics(unpaired(reward, p))
    assert found["reward_accuracy"] == pytest.approx(roc_auc_score(p, reward))
    gap = reward[p == 1].mean() - reward[p == 0].mean()
    assert found["reward_margin"] == pytest.approx(gap)
    assert found["chosen_reward"] - found["rejected_reward"] == pytest.approx(gap)
    assert abs(found["mean_logratio"]) < 100  # the mismatched answers are not in it
    only_good = row_metrics(unpaired([1.0, 2.0], [1.0, 1.0]))
    assert only_good["reward_accuracy"] is None
    assert only_good["rejected_reward"] is None


def test_accuracy_of_a_ranking_is_kendalls_concordance():
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(1, 6))
    rows = RowFacts(
        ["a"], "ranking", np.ones(1), np.ones(1), np.zeros(1), scores, np.zeros((1, 6)),
        np.full((1, 6), 3), 1.0,
    )  # fmt: skip
    tau = stats.kendalltau(-np.arange(6), scores[0]).statistic
    found = row_metrics(rows)
    assert found["reward_accuracy"] == pytest.approx((tau + 1) / 2)
    assert found["n_judged"] == 15


def test_an_answer_that_is_not_there_counts_nowhere():
    scores = np.array([[3.0, 1.0, 99.0]])
    rows = RowFacts(
        ["a"], "ranking", np.ones(1), np.ones(1), np.zeros(1), scores, np.zeros((1, 3)),
        np.array([[2, 2, 0]]), 1.0,
    )  # fmt: skip
    found = row_metrics(rows)
    assert found["n_judged"] == 1
    assert found["rejected_reward"] == 1.0
    assert found["mean_logratio"] == 2.0


def test_rewards_are_token_means_where_the_loss_takes_them():
    rows = RowFacts(
        ["a"], "pair", np.ones(1), np.ones(1), np.zeros(1), np.array([[-10.0, -12.0]]), None,
        np.array([[5, 4]]), 2.0, per_token=True,
    )  # fmt: skip
    found = row_metrics(rows)
    assert found["reward_margin"] == pytest.approx(2.0 * (-10 / 5 + 12 / 4))
    assert "mean_logratio" not in found
    assert found["chosen_logp_per_token"] == -2.0


def test_a_reward_model_has_rewards_and_no_log_probs():
    rows = RowFacts(
        ["a", "b"], "pair", np.ones(2), np.ones(2), np.zeros(2), np.array([[1.0, 0], [0, 2]]),
        None, np.full((2, 2), 3), 1.0, is_reward=True,
    )  # fmt: skip
    found = row_metrics(rows)
    assert found["reward_margin"] == pytest.approx(-0.5)
    assert found["reward_accuracy"] == 0.5
    assert not [key for key in found if "logp" in key or "logratio" in key]


def test_a_demonstration_is_measured_by_its_nll_a_token():
    rows = RowFacts(
        ["a", "b"], "demonstration", np.ones(2), np.ones(2), np.zeros(2),
        np.array([[-10.0], [-2.0]]), None, np.array([[5], [1]]), 1.0,
    )  # fmt: skip
    assert row_metrics(rows)["nll_per_token"] == 2.0


@given(
    arrays(np.float32, (4, 2), elements=ANY),
    arrays(np.float32, (4, 2), elements=ANY),
    arrays(np.float32, 4, elements=st.floats(0, 1, width=32)),
    st.sampled_from(["pair", "unpaired", "ranking", "demonstration"]),
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid:RuntimeWarning")
def test_no_metric_is_ever_nan(policy, reference, p, target):
    rows = RowFacts(
        list("abcd"), target, p, np.ones(4), np.zeros(4), policy, reference,
        np.array([[1, 2], [0, 3], [4, 0], [0, 0]]), 0.1,
    )  # fmt: skip
    found = row_metrics(rows)
    numbers = [value for value in found.values() if value is not None]
    assert np.isfinite(numbers).all(), found


def test_rows_that_are_not_finite_are_counted_and_change_nothing_else():
    margin, p = np.array([1.0, -2.0, 0.5]), np.array([1.0, 0.9, 0.75])
    clean = row_metrics(pair_facts(margin, p))
    with np.errstate(invalid="ignore"):
        dirty = pair_facts([*margin, float("nan"), float("inf")], [*p, 1.0, 1.0])
    found = row_metrics(dirty)
    assert found.pop("n_not_finite") == 2
    assert found.pop("n_rows") == clean.pop("n_rows") + 2
    assert found == clean


def test_the_line_of_a_step_counts_what_a_trainer_without_sharing_would_feed():
    line = step_line(step_facts(3, 9, pair_facts([0.1], [1.0]), terms={"nll": 0.2}))
    assert line["tokens_per_second"] == 1200 / 0.5
    assert line["n_tokens"] == 900
    assert line["loss/nll"] == 0.2
    assert line["step"] == 3


def chain_answers(policy, reference, length):
    """All answers of ``length`` tokens with their probability, and both models' token log-probs.

    policy, reference: (V, V) rows of next-token probabilities by the token before, 0 at first.
    """
    for answer in itertools.product(range(len(policy)), repeat=length):
        states = (0, *answer[:-1])
        steps = list(zip(states, answer, strict=True))
        lp = np.log([policy[s, t] for s, t in steps])
        lr = np.log([reference[s, t] for s, t in steps])
        yield math.exp(lp.sum()), lp, lr


def test_both_estimates_of_the_kl_are_unbiased():
    rng = np.random.default_rng(6)
    policy, reference = rng.dirichlet(np.ones(3), 3), rng.dirichlet(np.ones(3), 3)
    exact = mean = k3 = 0.0
    for weight, lp, lr in chain_answers(policy, reference, 4):
        exact += weight * (lp.sum() - lr.sum())
        found = sampled_kl(lp, lr, np.zeros(4, int), 1)
        assert found.mean is not None
        assert found.k3 is not None
        mean += weight * found.mean
        k3 += weight * found.k3
    assert exact > 0.1
    assert mean == pytest.approx(exact, rel=1e-9)
    assert k3 == pytest.approx(exact, rel=1e-9)


def test_sampled_kl_is_within_its_error_and_k3_varies_less():
    rng = np.random.default_rng(7)
    policy = np.array([0.5, 0.3, 0.2])
    reference = np.array([0.4, 0.4, 0.2])
    exact = 10 * float(policy @ np.log(policy / reference))
    tokens = rng.choice(3, (400, 10), p=policy)
    lp, lr = np.log(policy)[tokens].ravel(), np.log(reference)[tokens].ravel()
    answer = np.repeat(np.arange(400), 10)
    found = sampled_kl(lp, lr, answer, 400)
    assert found.error is not None
    assert found.mean == pytest.approx(exact, abs=4 * found.error)
    assert found.k3 == pytest.approx(exact, abs=found.error)
    parts = [sampled_kl(lp[i : i + 100], lr[i : i + 100], np.repeat(range(10), 10), 10)
             for i in range(0, 4000, 100)]  # fmt: skip
    assert np.std([part.k3 for part in parts]) < np.std([part.mean for part in parts])


def test_a_policy_that_is_its_reference_has_no_kl():
    found = sampled_kl(np.array([-1.0, -2.0]), np.array([-1.0, -2.0]), np.array([0, 1]), 2)
    assert (found.mean, found.k3, found.error) == (0.0, 0.0, 0.0)
    assert sampled_kl(np.zeros(0), np.zeros(0), np.zeros(0, int), 0).mean is None


def test_a_held_out_table_carries_its_bins_and_its_kl():
    rows = pair_facts([0.2, 1.0, -3.0], [1.0, 0.9, 0.6])
    samples = SampledAnswers(
        ["q"], ["a"], np.array([-1.0, -2.0]), np.array([-2.0, -2.5]), np.array([0, 0])
    )
    line = evaluation_line(EvaluationFacts(5, rows, 0.6, 1.0, samples))
    assert line["kl"] == pytest.approx(1.5)
    assert line["n_sampled"] == 1
    assert sum(n for n, _, _ in line["bins"]) == 3
    assert line["bins"][0][1] == pytest.approx(float(sigmoid(np.array(-3.0))))
    json.dumps(line, allow_nan=False)


def test_rewards_of_orpo_are_the_means_that_its_odds_are_made_of():
    """100 chosen tokens at −1 nat, 10 rejected ones at −2: ORPO prefers chosen, the sums do not."""
    objective = make_objective(TrainSettings(loss="orpo"))
    rows = RowFacts(
        ["long"], "pair", np.array([1.0]), np.ones(1), np.zeros(1), np.array([[-100.0, -20.0]]),
        None, np.array([[100, 10]]), objective.beta, per_token=objective.per_token,
    )  # fmt: skip
    found = row_metrics(rows)
    assert found["reward_accuracy"] == 1
    assert found["reward_margin"] == pytest.approx(0.1)
