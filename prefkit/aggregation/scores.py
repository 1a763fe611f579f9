"""How good probabilities are against votes: log-loss, Brier score, reliability, temperature.

A vote of share x (a tie is ½) scores x · loss(p) + (1 − x) · loss(1 − p).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefkit.aggregation.numeric import lowest, sigmoid, sums
from prefkit.aggregation.table import Floats, Indices

N_BINS = 10
N_RESAMPLES = 1000
MOST_LOG_TEMPERATURE = float(np.log(20.0))


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bin:
    """Votes whose likelier side was given p in [low, high): its mean p and its share of them."""

    low: float
    high: float
    n_votes: int
    p: float
    share: float


def log_loss(logit: Floats, share: Floats) -> Floats:
    """−x log p − (1 − x) log(1 − p) in nats, by vote."""
    return np.logaddexp(0.0, logit) - share * logit


def brier(p: Floats, share: Floats) -> Floats:
    """x (1 − p)² + (1 − x) p², by vote."""
    return share * (1 - p) ** 2 + (1 - share) * p**2


def logit_of(p: Floats) -> Floats:
    """log p/(1 − p) of p in (0, 1)."""
    return np.log(p) - np.log1p(-p)


def tempered(p: Floats, temperature: float, n_votes: Indices) -> Floats:
    """σ(τ logit p), never surer than ``n_votes`` votes allow (``surest``)."""
    most = surest(n_votes)
    return np.clip(sigmoid(temperature * logit_of(p)), 1 - most, most)


def surest(n_votes: Indices) -> Floats:
    """The highest p that leaves here: 0.9 from one vote, 0.95 from two, 0.98 from five on."""
    return 1 - np.maximum(0.02, 0.1 / np.maximum(n_votes, 1))


def fit_temperature(logit: Floats, share: Floats) -> float:
    """The τ in [1/20, 20] with the least mean log-loss of σ(τ logit), by golden section.

    The loss is convex in τ, so unimodal in log τ. 1 where there is no vote.
    """
    if not len(logit):
        return 1.0

    def loss(log_tau: float) -> float:
        return float(log_loss(np.exp(log_tau) * logit, share).sum())

    return float(np.exp(lowest(loss, -MOST_LOG_TEMPERATURE, MOST_LOG_TEMPERATURE)))


def reliability(p: Floats, share: Floats) -> tuple[Bin, ...]:
    """Ten bins of the likelier side's p from ½ to 1; empty ones are left out."""
    sure = np.maximum(p, 1 - p)
    agreed = np.where(p >= 0.5, share, 1 - share)
    at = np.minimum(((sure - 0.5) * 2 * N_BINS).astype(np.int64), N_BINS - 1)
    n, p_sum, share_sum = (
        np.bincount(at, weights=weights, minlength=N_BINS) for weights in (None, sure, agreed)
    )
    edges = 0.5 + np.arange(N_BINS + 1) / (2 * N_BINS)
    return tuple(
        Bin(
            float(edges[i]),
            float(edges[i + 1]),
            int(n[i]),
            float(p_sum[i] / n[i]),
            float(share_sum[i] / n[i]),
        )
        for i in np.flatnonzero(n)
    )


def calibration_error(bins: Sequence[Bin]) -> float:
    """Mean |p − share| over the bins by votes; what is left of it by chance is not taken off."""
    n = sum(found.n_votes for found in bins)
    return sum(found.n_votes * abs(found.p - found.share) for found in bins) / max(n, 1)


def bootstrap(losses: Floats, item: Indices, *, seed: int) -> list[Interval]:
    """The mean of each column of ``losses`` (n, m) and its 95 % interval, items resampled.

    Every column meets the same resamples, so a column of differences is a paired comparison.
    """
    known, at = np.unique(item, return_inverse=True)
    n = len(known)
    totals = np.stack([sums(at, column, n) for column in losses.T], axis=1)
    votes = np.bincount(at, minlength=n)
    rng = np.random.default_rng(seed)
    means: list[Floats] = []
    for _ in range(N_RESAMPLES):
        times = np.bincount(rng.integers(0, n, n), minlength=n)
        means.append(times @ totals / (times @ votes))
    low, high = np.percentile(np.array(means), [2.5, 97.5], axis=0)
    value = losses.mean(axis=0)
    return [Interval(*map(float, row)) for row in zip(value, low, high, strict=True)]
