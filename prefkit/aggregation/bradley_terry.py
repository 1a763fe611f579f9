"""Bradley–Terry with raters who slip and lean: each comparison has a score, drawn from a normal.

    P(r prefers a of i, side x) = ½ + γ_r (σ(s_i + (β + b_r) x) − ½),   s_i ~ N(0, τ²)

x = +1 where a stood on the left, −1 where b did, 0 where nobody knows. γ_r = 2σ(g_r) − 1 is skill:
the rater says the opposite of an ideal one with probability (1 − γ_r)/2, which is what the loss
``votes`` of the trainer takes; below 0 for one who has it the wrong way round. The scores are
integrated out on a grid, so that a comparison of one vote is not taken at its word; g, b, β and
log τ are the most probable ones under

    g_r ~ N(ḡ, 1),  ḡ ~ N(2.2, 1),  b_r ~ N(0, 1),  β ~ N(0, 1),  log τ ~ N(log 2, ¼)

found by L-BFGS with the gradient of the marginal likelihood. (Crowd-BT, Chen et al. 2013, and
factorBT, Bugakova et al. 2019, have skill and side; they maximise over the scores.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from prefkit.aggregation.latent import Evidence, evidence, split_sides
from prefkit.aggregation.numeric import climb, sigmoid
from prefkit.aggregation.table import Floats, VoteTable

# Scores over τ: coarse where raters are sought, fine where a comparison of many votes is read.
GRID, FINE = np.linspace(-4.0, 4.0, 25), np.linspace(-4.0, 4.0, 65)
SIDES = np.array([-1.0, 0.0, 1.0])
SUREST = 1 - 1e-12
N_KINDS = 6  # of a rater: side (3) × choice (2)
USUAL_SKILL, USUAL_SPREAD = 2.2, float(np.log(2.0))
SPREAD_PRECISION = 4.0  # log τ has a standard deviation of ½: a spread is hardly above 5
MOST_STEPS, TOLERANCE = 300, 1e-4


class Raters(NamedTuple):
    """skill: g_r, (R,); lean: b_r, (R,); usual: ḡ; left: β; spread: log τ. Or their gradients."""

    skill: Floats
    lean: Floats
    usual: float
    left: float
    spread: float

    @classmethod
    def unpack(cls, x: Floats) -> Self:
        n = (len(x) - 3) // 2
        return cls(x[:n], x[n : 2 * n], float(x[-3]), float(x[-2]), float(x[-1]))

    def pack(self) -> Floats:
        return np.concatenate([self.skill, self.lean, [self.usual, self.left, self.spread]])

    @property
    def gamma(self) -> Floats:
        # Never quite 1, whatever a trial step of the search does: log(1 − p) must stay a number.
        return np.clip(2 * sigmoid(self.skill) - 1, -SUREST, SUREST)

    @classmethod
    def usual_ones(cls, n: int) -> Self:
        """Where every search starts: n raters of whom nothing is known."""
        return cls(np.full(n, USUAL_SKILL), np.zeros(n), USUAL_SKILL, 0.0, USUAL_SPREAD)


@dataclass(frozen=True, slots=True)
class FittedBradleyTerry:
    """fresh: P(a fresh rater prefers a | score on the fine grid), either side as likely, (Q,)."""

    raters: Raters
    fresh: Floats
    converged: bool

    def p_a(self, votes: VoteTable) -> Floats:
        log_p = log_choices(self.raters, FINE)
        posterior, _ = evidence_of(votes).posterior(log_p, log_weights(FINE))
        return posterior @ self.fresh

    def error_rates(self) -> Floats | None:
        return (1 - self.raters.gamma) / 2


class BradleyTerry:
    """Scores of comparisons, marginalised."""

    def fit(self, train: VoteTable) -> FittedBradleyTerry:
        raters, converged = train.once("raters", fit_raters)
        scores = np.exp(raters.spread) * FINE
        return FittedBradleyTerry(raters, fresh_choice(raters, train, scores), converged)

    def why_not(self, table: VoteTable) -> str | None:
        del table
        return None


def fit_raters(train: VoteTable) -> tuple[Raters, bool]:
    """The most probable raters given the votes, and whether the search came to its end."""
    votes = evidence_of(train).heard()

    def function(x: Floats) -> tuple[float, Floats]:
        value, gradient = log_posterior(votes, Raters.unpack(x))
        return value, gradient.pack()

    start = Raters.usual_ones(train.n_raters).pack()
    top = climb(function, start, flat=TOLERANCE, most_steps=MOST_STEPS)
    return Raters.unpack(top.x), top.found


def fresh_choice(raters: Raters, train: VoteTable, scores: Floats) -> Floats:
    """P(a rater drawn from the votes prefers a), the side drawn by lot, at ``scores`` (Q,)."""
    share = train.voices()
    gamma, leans = raters.gamma, raters.left + raters.lean
    if not share.any():  # nobody has voted: the usual rater
        gamma, leans = 2 * sigmoid(np.array([raters.usual])) - 1, np.array([raters.left])
        share = np.ones(1)
    heard = share > 0
    gamma, leans, share = gamma[heard, None], leans[heard, None], share[heard]
    pull = sigmoid(scores + leans) + sigmoid(scores - leans) - 1  # twice σ − ½, mean of both sides
    return 0.5 + share @ (gamma * pull / 2)


def evidence_of(votes: VoteTable) -> Evidence:
    """kind = (rater · 3 + side + 1) · 2 + choice."""
    number, outcome, weight = split_sides(votes)
    kind = (votes.rater[number] * 3 + votes.side[number] + 1) * 2 + outcome
    return evidence(
        votes.item[number], kind, weight, shape=(votes.n_items, votes.n_raters * N_KINDS)
    )


def log_weights(grid: Floats) -> Floats:
    """log of the standard normal's share of each point of an even grid, (Q,)."""
    density = np.exp(-0.5 * grid**2)
    return np.log(density / density.sum())


def log_choices(raters: Raters, grid: Floats) -> Floats:
    """log P(choice) by kind and score, (R · 6, Q)."""
    p = _choices(raters, grid)[1]
    return np.log(np.stack([p, 1 - p], axis=2)).reshape(-1, len(grid))


def _choices(raters: Raters, grid: Floats) -> tuple[Floats, Floats]:
    """σ(s + (β + b) x) and P(prefers a), (R, 3, Q) each."""
    pull = (raters.left + raters.lean)[:, None] * SIDES
    ideal = sigmoid(np.exp(raters.spread) * grid + pull[:, :, None])
    return ideal, 0.5 + raters.gamma[:, None, None] * (ideal - 0.5)


def log_posterior(votes: Evidence, raters: Raters) -> tuple[float, Raters]:
    """log P(votes, parameters) up to a constant, and its gradient by the parameters."""
    posterior, log_p = votes.posterior(log_choices(raters, GRID), log_weights(GRID))
    # Fisher's identity: the gradient is that of the expected complete log-likelihood.
    seen = votes.expected(posterior).reshape(-1, len(SIDES), 2, len(GRID))
    ideal, p = _choices(raters, GRID)
    by_p = seen[:, :, 0] / p - seen[:, :, 1] / (1 - p)
    gamma = raters.gamma[:, None, None]
    by_logit = by_p * gamma * ideal * (1 - ideal)
    by_gamma = (by_p * (ideal - 0.5)).sum(axis=(1, 2))
    by_lean = (by_logit * SIDES[:, None]).sum(axis=(1, 2))
    by_spread = (by_logit * np.exp(raters.spread) * GRID).sum()
    off = raters.skill - raters.usual
    prior = -0.5 * (
        off @ off + raters.lean @ raters.lean + (raters.usual - USUAL_SKILL) ** 2
        + raters.left**2 + SPREAD_PRECISION * (raters.spread - USUAL_SPREAD) ** 2
    )  # fmt: skip
    gradient = Raters(
        by_gamma * (1 - raters.gamma**2) / 2 - off,
        by_lean - raters.lean,
        float(off.sum() - (raters.usual - USUAL_SKILL)),
        float(by_lean.sum() - raters.left),
        float(by_spread - SPREAD_PRECISION * (raters.spread - USUAL_SPREAD)),
    )
    return float(log_p.sum() + prior), gradient
