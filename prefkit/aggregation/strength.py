"""Agreement-calibrated strengths: what "much better" is worth is read off the other raters.

    q_rl = P(another rater agrees | rater r says strength l),   p_a = σ(Σ ± logit q_rl)

A vote's agreement is the mean over the other votes of its comparison (people's, where there are
any); half for a tie. q_l pools all raters with Beta(1, 1), and is what one such vote is worth to
the vote share where none has another beside it; a rater's own q_rl starts from it with the weight
of ``OWN_FROM`` votes. A tie says nothing of a side; a machine's vote of share x counts
as |2x − 1| of a vote. Raters' votes are not independent given the pair, so the sum overstates:
the temperature of held-out votes belongs to this method.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefkit.aggregation.numeric import sigmoid, sums
from prefkit.aggregation.table import BOTH_BAD, Floats, VoteTable
from prefkit.aggregation.vote_share import WEIGHTS

OWN_FROM = 25.0
ALONE = (1 + WEIGHTS) / (2 + WEIGHTS)  # by level + 1
N_LEVELS = 5  # unknown, 0, 1, 2, 3: level + 1


@dataclass(frozen=True, slots=True)
class FittedStrength:
    """logit_q: (n_raters, N_LEVELS). agreement: each rater's mean agreement, smoothed likewise,
    (n_raters,); overall: that of all votes.
    """

    logit_q: Floats
    agreement: Floats
    overall: float

    def p_a(self, votes: VoteTable) -> Floats:
        speaking = votes.speaking
        worth = self.logit_q[speaking.rater, speaking.level + 1]
        lead = sums(speaking.item, (2 * speaking.share - 1) * worth, votes.n_items)
        # Beyond ±30 a float's 1 − p is 0.
        return sigmoid(np.clip(lead, -30.0, 30.0))

    def error_rates(self) -> Floats | None:
        """From agreement alone: a = (1 − e)(1 − ē) + e ē with ē the pool's own error.

        Differences of taste count as errors too, so this is an upper bound.
        """
        if self.overall <= 0.5:
            return np.full(len(self.agreement), 0.5)
        pool = (1 - np.sqrt(2 * self.overall - 1)) / 2  # overall = (1 − ē)² + ē²
        return np.clip((1 - pool - self.agreement) / (1 - 2 * pool), 0.0, 1.0)


class Strength:
    """Closed form: two passes over the votes."""

    def fit(self, train: VoteTable) -> FittedStrength:
        shape = (train.n_raters, N_LEVELS)
        agreed, heard = agreements(train)
        at_level = heard.sum(axis=0)
        level = np.where(at_level > 0, pooled(agreed.sum(axis=0), at_level), ALONE)
        q = (OWN_FROM * level + agreed) / (OWN_FROM + heard)
        overall = float(pooled(agreed.sum(), heard.sum()))
        own = (OWN_FROM * overall + agreed.sum(axis=1)) / (OWN_FROM + heard.sum(axis=1))
        logit = np.log(q) - np.log1p(-q)
        return FittedStrength(logit.reshape(shape), own, overall)

    def why_not(self, table: VoteTable) -> str | None:
        del table
        return None


def pooled(agreed: Floats, heard: Floats) -> Floats:
    """P(agree) with one virtual agreement and one disagreement."""
    return (1 + agreed) / (2 + heard)


def agreements(train: VoteTable) -> tuple[Floats, Floats]:
    """Votes that agreed with the others, and votes that had others, (n_raters, N_LEVELS) each.

    Both are sums of fractions: a vote weighs |2 share − 1| and agrees with the mean of the others.
    """
    votes = train.where(train.outcome != BOTH_BAD)
    judged = votes.judged().astype(np.float64)
    lean = 2 * votes.share - 1
    n_judged = sums(votes.item, judged, votes.n_items)
    leans = sums(votes.item, judged * lean, votes.n_items)
    n_others = n_judged[votes.item] - judged
    others = leans[votes.item] - judged * lean
    weight = np.abs(lean) * (n_others > 0)
    agree = 0.5 + 0.5 * np.sign(lean) * others / np.maximum(n_others, 1)
    cell = votes.rater * N_LEVELS + votes.level + 1
    size = train.n_raters * N_LEVELS
    shape = (train.n_raters, N_LEVELS)
    agreed = sums(cell, weight * agree, size).reshape(shape)
    heard = sums(cell, weight, size).reshape(shape)
    return agreed, heard
