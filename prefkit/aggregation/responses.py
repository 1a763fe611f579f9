"""Bradley–Terry over the answers of a prompt: a comparison's score is u_a − u_b.

    P(r prefers a, side x) = ½ + γ_r (σ(u_a − u_b + (β + b_r) x) − ½),   u ~ N(0, τ²/2)

Where a prompt has more than two answers, votes on one comparison say something of the others that
share an answer (Bradley and Terry 1952, MacKay's prior as in bradley_terry.py). γ, β, b and τ are
those of the comparison-level fit, in which scores are integrated out; given them the u are the
most probable ones, found by L-BFGS. A plug-in estimate is too sure: the temperature of held-out
votes belongs to this method.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from prefkit.aggregation.bradley_terry import Raters, fit_raters, fresh_choice
from prefkit.aggregation.latent import split_sides
from prefkit.aggregation.numeric import climb, sigmoid, sums
from prefkit.aggregation.table import A, Floats, Indices, VoteTable

MOST_STEPS, TOLERANCE = 500, 1e-4
# Where the mean over raters is computed; between two of them it is interpolated.
SCORES = np.linspace(-20.0, 20.0, 801)


@dataclass(frozen=True, slots=True)
class FittedResponses:
    """raters: of the comparison-level fit. start: scores of the training votes, (n_responses,)."""

    raters: Raters
    fresh: Floats
    train: VoteTable
    start: Floats

    def p_a(self, votes: VoteTable) -> Floats:
        """The training votes on other items than those of ``votes`` are evidence too."""
        scores = solve(joined(votes, self.train), self.raters, self.start)
        return np.interp(scores[votes.first] - scores[votes.second], SCORES, self.fresh)

    def error_rates(self) -> Floats | None:
        return (1 - self.raters.gamma) / 2


class ResponseBradleyTerry:
    """Raters first, then the scores of the answers."""

    def fit(self, train: VoteTable) -> FittedResponses:
        raters, _ = train.once("raters", fit_raters)
        scores = solve(train, raters, np.zeros(train.n_responses))
        return FittedResponses(raters, fresh_choice(raters, train, SCORES), train, scores)

    def why_not(self, table: VoteTable) -> str | None:
        times = np.bincount(np.concatenate([table.first, table.second]))
        if not (times > 1).any():
            return "no answer is in two comparisons"
        return None


def joined(votes: VoteTable, train: VoteTable) -> VoteTable:
    """The votes, and those of ``train`` on items that have none in ``votes``."""
    heard = np.zeros(votes.n_items, dtype=np.bool_)
    heard[votes.item] = True
    more = train.where(~heard[train.item])
    return replace(
        votes,
        _done={},
        item=np.concatenate([votes.item, more.item]),
        rater=np.concatenate([votes.rater, more.rater]),
        share=np.concatenate([votes.share, more.share]),
        level=np.concatenate([votes.level, more.level]),
        side=np.concatenate([votes.side, more.side]),
        outcome=np.concatenate([votes.outcome, more.outcome]),
        machine=np.concatenate([votes.machine, more.machine]),
        soft=np.concatenate([votes.soft, more.soft]),
    )


@dataclass(frozen=True)
class Duels:
    """Votes for one answer over another: won, lost (responses), gamma of the rater, pull: the
    logit that its side adds to the winner, weight; (n,) each. A tie is two half votes.
    """

    won: Indices
    lost: Indices
    gamma: Floats
    pull: Floats
    weight: Floats

    @classmethod
    def of(cls, votes: VoteTable, raters: Raters) -> Self:
        number, outcome, weight = split_sides(votes)
        kept = weight > 0
        number, outcome, weight = number[kept], outcome[kept], weight[kept]
        item, rater, for_a = votes.item[number], votes.rater[number], outcome == A
        first, second = votes.first[item], votes.second[item]
        pull = (raters.left + raters.lean[rater]) * votes.side[number]
        return cls(
            np.where(for_a, first, second),
            np.where(for_a, second, first),
            raters.gamma[rater],
            np.where(for_a, pull, -pull),
            weight,
        )


def solve(votes: VoteTable, raters: Raters, start: Floats) -> Floats:
    """The most probable scores of the answers given the votes and the raters, (n_responses,)."""
    duels = Duels.of(votes, raters)
    precision = 2.0 * float(np.exp(-2 * raters.spread))

    def function(scores: Floats) -> tuple[float, Floats]:
        return log_posterior(scores, duels, precision)

    return climb(function, start, flat=TOLERANCE, most_steps=MOST_STEPS).x


def log_posterior(scores: Floats, duels: Duels, precision: float) -> tuple[float, Floats]:
    """log P(votes, scores | raters) up to a constant, and its gradient by the scores."""
    ideal = sigmoid(scores[duels.won] - scores[duels.lost] + duels.pull)
    p = 0.5 + duels.gamma * (ideal - 0.5)
    by_logit = duels.weight * duels.gamma * ideal * (1 - ideal) / p
    gradient = sums(duels.won, by_logit, len(scores))
    gradient -= sums(duels.lost, by_logit, len(scores))
    value = duels.weight @ np.log(p) - 0.5 * precision * (scores @ scores)
    return float(value), gradient - precision * scores
