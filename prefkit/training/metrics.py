"""Numbers that say how a training step went: pure functions of ``RowFacts``, numpy only.

Every figure is a plain float or None where the rows do not determine it; never NaN. Means are over
rows, each counted once; only the loss knows weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from prefkit.training.facts import EvaluationFacts, RowFacts, StepFacts

if TYPE_CHECKING:
    from prefkit.training.facts import Floats, Integers

N_BINS = 10
MIN_ROWS = 3  # two points always lie on a line
# Below this part of the largest value, a spread is what rounding leaves.
ROUNDING = 1e-6


def step_line(facts: StepFacts) -> dict[str, Any]:
    """The line of metrics.jsonl of one optimiser step."""
    rate = facts.n_tokens_equivalent / facts.seconds if facts.seconds > 0 else None
    return {
        "step": facts.step,
        "epoch": facts.epoch,
        "loss": _finite(facts.loss),
        **{f"loss/{name}": _finite(value) for name, value in facts.terms.items()},
        **row_metrics(facts.rows),
        "grad_norm": _finite(facts.grad_norm),
        "learning_rate": facts.learning_rate,
        "n_tokens": facts.n_tokens_fed,
        "n_tokens_equivalent": facts.n_tokens_equivalent,
        "tokens_per_second": rate,
        "seconds": round(facts.seconds, 4),
    }


def evaluation_line(facts: EvaluationFacts) -> dict[str, Any]:
    """The line of evaluations.jsonl of one held-out table; bins are those of ``calibration``."""
    line = {
        "step": facts.step,
        "loss": _finite(facts.loss),
        **row_metrics(facts.rows),
        "seconds": round(facts.seconds, 4),
    }
    if facts.rows.target == "pair":
        rows = measured(facts.rows)
        found = calibration(_margins(rows), rows.p)
        line["bins"] = [list(part) for part in found.bins]
    samples = facts.samples
    if samples is not None and samples.policy is not None and samples.reference is not None:
        assert samples.answer is not None
        kl = sampled_kl(samples.policy, samples.reference, samples.answer, len(samples.texts))
        line |= {"kl": kl.mean, "kl_k3": kl.k3, "kl_error": kl.error, "n_sampled": kl.n_answers}
    return line


def row_metrics(rows: RowFacts) -> dict[str, Any]:
    """What can be said of ``rows`` whatever step they are of; the keys depend on the target.

    Those of log-probs are left out for a reward model, those of log-ratios without a reference.
    Rows that are not finite are counted in n_not_finite, where there are any, and nowhere else.

    reward_accuracy: pairs with p ≠ ½ whose margin has the sign that p says, a zero counts ½;
    rankings: pairs of answers in the right order; unpaired answers: P(a desirable one has the
    higher reward), the area under the curve. chosen_*: the first answer, or the desirable ones;
    rejected_*: the other answers, or the undesirable ones. n_judged: what the accuracy is over.
    """
    found: dict[str, Any] = {"n_rows": len(rows.ids), "entropy": _finite(rows.entropy)}
    rows = measured(rows)
    if found["n_rows"] > len(rows.ids):
        found["n_not_finite"] = found["n_rows"] - len(rows.ids)
    if rows.reference is not None:
        found["mean_logratio"] = _mean(rows.ratios()[_scored(rows)])
    match rows.target:
        case "pair":
            first, others = _sides(rows)
            found |= _side_metrics(rows, first, others) | _pair_metrics(rows)
        case "ranking":
            first, others = _sides(rows)
            found |= _side_metrics(rows, first, others) | _ranking_metrics(rows)
        case "unpaired":
            good, bad = _sides_by_label(rows)
            found |= _side_metrics(rows, good, bad) | _unpaired_metrics(rows, good, bad)
        case "demonstration":
            tokens = int(rows.n_tokens[:, 0].sum())
            nll = -float(rows.policy[:, 0].sum()) / tokens if tokens else None
            found |= {"chosen_logp": _mean(rows.policy[:, 0]), "nll_per_token": nll}
    return found


def measured(rows: RowFacts) -> RowFacts:
    """The rows whose rewards are finite; the others count in no metric but ``n_not_finite``."""
    known: Any = np.isfinite(rows.rewards()).all(axis=1)
    if known.all():
        return rows
    return replace(
        rows,
        ids=[row_id for row_id, is_known in zip(rows.ids, known, strict=True) if is_known],
        p=rows.p[known],
        weight=rows.weight[known],
        values=rows.values[known],
        policy=rows.policy[known],
        reference=None if rows.reference is None else rows.reference[known],
        n_tokens=rows.n_tokens[known],
    )


def agreement(margin: Floats, p: Floats) -> tuple[float | None, int]:
    """Part of the rows with p ≠ ½ where sign(margin) says what p says, and how many those are.

    A margin of zero counts ½; None where no row has a preference.
    """
    judged = p != 0.5
    n = int(judged.sum())
    if n == 0:
        return None, 0
    right = np.where(margin == 0, 0.5, (margin > 0) == (p > 0.5))
    return float(right[judged].mean()), n


@dataclass(frozen=True, slots=True)
class Calibration:
    """How well σ(margin) says p.

    ece: Σ n_b/n · |mean σ(margin) − mean p| over bins of equal width in σ(margin) (Guo et al.
    2017, arXiv 1706.04599, eq. 5, with p for the label). brier: mean (σ(margin) − p)². bins:
    (rows, mean σ(margin), mean p) of each bin that has rows, in order. ece and brier are None
    without rows.
    """

    ece: float | None
    brier: float | None
    bins: tuple[tuple[int, float, float], ...]


def calibration(margin: Floats, p: Floats, *, n_bins: int = N_BINS) -> Calibration:
    """Compares what the policy implies, σ(margin), with what the labels say, p; both (rows,)."""
    if len(p) == 0:
        return Calibration(None, None, ())
    implied = sigmoid(margin)
    place = np.minimum((implied * n_bins).astype(int), n_bins - 1)
    bins: list[tuple[int, float, float]] = []
    for index in range(n_bins):
        inside = place == index
        if inside.any():
            bins.append((int(inside.sum()), float(implied[inside].mean()), float(p[inside].mean())))
    ece = sum(n * abs(said - true) for n, said, true in bins) / len(p)
    return Calibration(ece, float(np.mean((implied - p) ** 2)), tuple(bins))


def correlation(one: Floats, other: Floats) -> float | None:
    """Pearson's r in [−1, 1]; None below three rows or where either side does not vary."""
    if len(one) < MIN_ROWS:
        return None
    x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
    dx, dy = x - x.mean(), y - y.mean()
    for deviation, values in ((dx, x), (dy, y)):
        if np.abs(deviation).max() <= ROUNDING * np.abs(values).max():
            return None
    # Scaled first, so that squares neither overflow nor vanish.
    dx, dy = dx / np.abs(dx).max(), dy / np.abs(dy).max()
    return _finite(float(np.clip(dx @ dy / math.sqrt(float((dx @ dx) * (dy @ dy))), -1, 1)))


@dataclass(frozen=True, slots=True)
class SampledKL:
    """KL(π ‖ π_ref) of whole answers, in nats, from answers drawn from π.

    mean: of log π(y) − log π_ref(y), unbiased, may come out below zero. k3: Σ_t (r_t − 1 −
    log r_t) with r_t = π_ref/π of token t, averaged over answers: unbiased too, since each token's
    term has the KL of its own step as its expectation, never negative and less noisy
    (J. Schulman 2020, "Approximating KL divergence", k1 and k3). error: standard error of
    ``mean``, None for one answer.
    """

    mean: float | None
    k3: float | None
    error: float | None
    n_answers: int


def sampled_kl(policy: Floats, reference: Floats, answer: Integers, n_answers: int) -> SampledKL:
    """Estimates the KL from the log-probs (N,) of sampled tokens; ``answer`` (N,) groups them.

    The answers have to be drawn from the policy at temperature 1, without top-p: others estimate
    another number. Answers cut at a token limit give the KL of their first tokens.
    """
    if n_answers == 0:
        return SampledKL(None, None, None, 0)
    gap = np.asarray(policy, np.float64) - np.asarray(reference, np.float64)
    whole = np.bincount(answer, weights=gap, minlength=n_answers)
    # r of a token that the policy all but rules out overflows; the estimate is then not determined.
    with np.errstate(over="ignore"):
        k3 = np.bincount(answer, weights=np.expm1(-gap) + gap, minlength=n_answers)
    error = float(whole.std(ddof=1)) / math.sqrt(n_answers) if n_answers > 1 else None
    return SampledKL(_mean(whole), _mean(k3), _finite(error), n_answers)


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + e^−x) in fp64, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(x, np.float64)))


def _pair_metrics(rows: RowFacts) -> dict[str, Any]:
    margin = _margins(rows)
    longer = (rows.n_tokens[:, 0] - rows.n_tokens[:, 1]).astype(np.float64)
    accuracy, n_judged = agreement(margin, rows.p)
    found = calibration(margin, rows.p)
    return {
        "reward_accuracy": accuracy,
        "n_judged": n_judged,
        "reward_margin": _mean(margin),
        "ece": found.ece,
        "brier": _finite(found.brier),
        "length_margin_corr": correlation(longer, margin),
        "length_p_corr": correlation(longer, rows.p),
    }


def _ranking_metrics(rows: RowFacts) -> dict[str, Any]:
    rewards, present = rows.rewards(), _scored(rows)
    above, below = np.triu_indices(rewards.shape[1], 1)
    both = present[:, above] & present[:, below]
    gap = (rewards[:, above] - rewards[:, below])[both]
    right = np.where(gap == 0, 0.5, gap > 0)
    return {
        "reward_accuracy": _mean(right),
        "n_judged": len(right),
        "reward_margin": _mean(gap),
    }


def _unpaired_metrics(rows: RowFacts, good: Any, bad: Any) -> dict[str, Any]:
    rewards = rows.rewards()
    gap = rewards[good][:, None] - rewards[bad][None, :]
    return {
        "reward_accuracy": _mean(np.where(gap == 0, 0.5, gap > 0)),
        "n_judged": int(gap.size),
        "reward_margin": _mean(gap),
    }


def _side_metrics(rows: RowFacts, chosen: Any, rejected: Any) -> dict[str, Any]:
    """Rewards and log-probs of the answers under two masks (rows, n)."""
    rewards = rows.rewards()
    found: dict[str, Any] = {
        "chosen_reward": _mean(rewards[chosen]),
        "rejected_reward": _mean(rewards[rejected]),
    }
    if rows.is_reward:
        return found
    tokens = int(rows.n_tokens[chosen].sum())
    found |= {
        "chosen_logp": _mean(rows.policy[chosen]),
        "rejected_logp": _mean(rows.policy[rejected]),
        "chosen_logp_per_token": float(rows.policy[chosen].sum()) / tokens if tokens else None,
    }
    if rows.reference is not None:
        found["chosen_logratio"] = _mean(rows.ratios()[chosen])
    return found


def _sides(rows: RowFacts) -> tuple[Any, Any]:
    """The first answers and the others, where they are there: two masks (rows, n)."""
    first, others = _scored(rows), _scored(rows)
    first[:, 1:] = False
    others[:, 0] = False
    return first, others


def _sides_by_label(rows: RowFacts) -> tuple[Any, Any]:
    """The desirable and the undesirable answers: two masks (rows, n)."""
    there = _scored(rows)
    return there & (rows.p > 0.5)[:, None], there & (rows.p < 0.5)[:, None]


def _margins(rows: RowFacts) -> Floats:
    rewards = rows.rewards()
    return rewards[:, 0] - rewards[:, 1]


def _scored(rows: RowFacts) -> Any:
    """Which answers are there: (rows, n) bool. A mismatched answer is no answer of its row."""
    there = rows.n_tokens > 0
    if rows.target in ("unpaired", "demonstration"):
        there[:, 1:] = False
    return there


def _mean(values: Any) -> float | None:
    return _finite(float(values.mean())) if len(values) and values.size else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
