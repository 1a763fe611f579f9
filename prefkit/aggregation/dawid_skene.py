"""Dawid–Skene: each comparison has a true outcome, each rater a table of what they say of it.

    P(votes of i) = Σ_z ρ_z Π_v π_r(v)[z, outcome v],   z and outcome in {a, b, tie, both bad}

(Dawid and Skene 1979.) Departures: which answer is slot a says nothing, so ρ and every π are kept
the same under a ↔ b; a rater's rows start from the pool's, fitted first as if all were one rater,
with the weight of ``OWN_FROM`` votes; the parameters are the most probable ones. The tie is a
class also where nobody may say it: there it holds the pairs on which raters toss a coin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefkit.aggregation.latent import Evidence, evidence, split_outcomes
from prefkit.aggregation.numeric import climb, shares
from prefkit.aggregation.table import BOTH_BAD, TIE, A, B, Floats, VoteTable

OWN_FROM = 10.0
# Virtual votes by true outcome and outcome: one each, and one more for the truth. Virtual
# comparisons by true outcome: one each.
POOL_PRIOR = np.ones((4, 4)) + np.eye(4)
EM_STEPS, MOST_STEPS, TOLERANCE = 20, 500, 1e-4
TINY = 1e-300
_FLIP = np.array([B, A, TIE, BOTH_BAD])


@dataclass(frozen=True)
class Confusions:
    """pi: (R, Z, Z), rater, true outcome, said outcome; rho: (Z,)."""

    pi: Floats
    rho: Floats
    converged: bool


@dataclass(frozen=True, slots=True)
class FittedDawidSkene:
    """The pool's table is the mean of the raters' by votes: a fresh rater's vote is of no one
    rater.
    """

    confusions: Confusions
    pool: Floats

    def p_a(self, votes: VoteTable) -> Floats:
        found = self.confusions
        posterior, _ = evidence_of(votes, len(found.rho)).posterior(
            kinds(found.pi), np.log(found.rho)
        )
        says = posterior @ self.pool
        return (says[:, A] + 0.5 * says[:, TIE]) / (says[:, A] + says[:, B] + says[:, TIE])

    def error_rates(self) -> Floats | None:
        """P(says the other side | says a side, there is a better one)."""
        side = self.confusions.pi[:, A]
        return side[:, B] / (side[:, A] + side[:, B])


class DawidSkene:
    """The pool's confusion table first, then each rater's."""

    def fit(self, train: VoteTable) -> FittedDawidSkene:
        n = 4 if (train.outcome == BOTH_BAD).any() else 3  # nobody bad: no such class
        votes = evidence_of(train, n)
        pooled = evidence_of(train, n, one_rater=True)
        prior = POOL_PRIOR[:n, :n]
        first = most_probable(pooled.heard(), prior[None], start=prior[None] / prior.sum(axis=1))
        own = np.broadcast_to(OWN_FROM * first.pi, (train.n_raters, n, n))
        found = most_probable(votes.heard(), own, start=np.broadcast_to(first.pi, own.shape))
        share = train.voices()
        pool = np.einsum("r,rzo->zo", share, found.pi) if share.any() else first.pi[0]
        return FittedDawidSkene(found, pool)

    def why_not(self, table: VoteTable) -> str | None:
        del table
        return None


def evidence_of(votes: VoteTable, n: int, *, one_rater: bool = False) -> Evidence:
    """kind = rater · n + outcome; outcomes beyond the n known ones are left out."""
    number, outcome, weight = split_outcomes(votes)
    known = outcome < n
    rater = np.zeros_like(number) if one_rater else votes.rater[number]
    width = 1 if one_rater else votes.n_raters
    return evidence(
        votes.item[number[known]],
        (rater * n + outcome)[known],
        weight[known],
        shape=(votes.n_items, width * n),
    )


def kinds(pi: Floats) -> Floats:
    """log P(said | true) by kind, (R · Z, Z), of tables (R, Z, Z)."""
    n = pi.shape[1]
    return np.log(pi).transpose(0, 2, 1).reshape(-1, n)


def most_probable(
    votes: Evidence,
    prior: Floats,
    *,
    start: Floats,
    tied: bool = True,
    virtual_items: float = 1.0,
) -> Confusions:
    """Tables from ``start``, (R, Z, Z), at a maximum of

        log P(votes) + Σ prior log π + virtual_items Σ log ρ

    prior: virtual votes, (R, Z, Z), above 0. tied: the same under a ↔ b. EM steps first, which
    come near from anywhere; then L-BFGS on the logits, as EM crawls at the end.
    """
    n = prior.shape[1]

    def expected(pi: Floats, rho: Floats) -> tuple[Floats, Floats, float]:
        counts, sizes, value = _expect(votes, pi, rho, tied)
        value += (prior * np.log(pi)).sum() + virtual_items * np.log(rho).sum()
        return counts + prior, sizes + virtual_items, float(value)

    pi, rho = start, np.full(n, 1 / n)
    for _ in range(EM_STEPS):
        counts, sizes, _ = expected(pi, rho)
        pi, rho = counts / counts.sum(axis=2, keepdims=True), sizes / sizes.sum()

    def function(x: Floats) -> tuple[float, Floats]:
        pi, rho = _probabilities(x, prior.shape)
        counts, sizes, value = expected(pi, rho)
        by_pi = counts - counts.sum(axis=2, keepdims=True) * pi
        return value, np.concatenate([by_pi.ravel(), sizes - sizes.sum() * rho])

    near = np.log(np.concatenate([pi.ravel(), rho]))
    top = climb(function, near, flat=TOLERANCE, most_steps=MOST_STEPS)
    return Confusions(*_probabilities(top.x, prior.shape), top.found)


def _expect(votes: Evidence, pi: Floats, rho: Floats, tied: bool) -> tuple[Floats, Floats, float]:
    """Expected votes by table, expected items by class, and log P(votes)."""
    posterior, log_p = votes.posterior(kinds(pi), np.log(rho))
    n = len(rho)
    counts = votes.expected(posterior).reshape(len(pi), n, n).transpose(0, 2, 1)
    sizes = posterior.sum(axis=0)
    if tied:
        flip = _FLIP[:n]
        counts = (counts + counts[:, flip][:, :, flip]) / 2
        sizes = (sizes + sizes[flip]) / 2
    return counts, sizes, float(log_p.sum())


def _probabilities(x: Floats, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Tables and class shares of their logits."""
    n = shape[-1]
    # A trial step may go so far that a probability is 0 in a float; its log must stay a number.
    return np.maximum(shares(x[:-n].reshape(shape)), TINY), np.maximum(shares(x[-n:]), TINY)
