"""Vote share with virtual votes for each side: one a side (Laplace), or as many as the data ask.

    p_a = (α + Σ w[a] + ½ Σ w[tie]) / (2α + Σ w)

w by strength: 1 → 0.5 (slightly), 2 → 0.75 (better), 3 → 1 (much better); a tie has w = 1. A
vote without a strength counts like "better", 0.75: the middle of what it may have meant. A
machine's p_a is a vote of w = 1 split between the sides, p_a to a and 1 − p_a to b: its
certainty is in p_a already, so its strength is not used a second time.

``vote_share`` has α = 1. ``fitted_share`` takes the α under which each vote is best predicted by
the others on its comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefkit.aggregation.beliefs import preferences_of
from prefkit.aggregation.numeric import lowest, sums
from prefkit.aggregation.table import TIE, Floats, VoteTable, vote_table
from prefkit.core.errors import ConfigError
from prefkit.core.records import Comparison, Preference, Vote

# By level + 1: unknown, 0, 1, 2, 3. A side with strength 0 contradicts itself: as if not given.
WEIGHTS = np.array([0.75, 0.75, 0.5, 0.75, 1.0])
VERSION = "1"
MOST_LOG_ALPHA = 7.0


def vote_share(
    comparisons: Sequence[Comparison], votes: Sequence[Vote], *, params: Mapping[str, Any]
) -> list[Preference]:
    """Share of the votes, weighted by strength, with one virtual vote for each side."""
    if params:
        raise ConfigError(f"vote_share takes no parameters, got {', '.join(sorted(params))}")
    ordered = sorted(votes, key=lambda vote: vote.id)
    table = vote_table(comparisons, ordered)
    return preferences_of(
        comparisons, ordered, table, share(table), method="vote_share", version=VERSION
    )


def share(table: VoteTable, alpha: float = 1.0) -> Floats:
    """The smoothed share of a of every item, (n_items,); ½ where there is no vote."""
    for_a, total = weighted_sums(table)
    return (alpha + for_a) / (2 * alpha + total)


def weighted_sums(table: VoteTable) -> tuple[Floats, Floats]:
    """Weight for a and weight in all of every item's speaking votes, (n_items,) each."""
    votes = table.speaking
    weight = weights_of(votes)
    for_a = sums(votes.item, weight * votes.share, table.n_items)
    return for_a, sums(votes.item, weight, table.n_items)


def weights_of(votes: VoteTable) -> Floats:
    """How much each speaking vote counts, (n,)."""
    return np.where(votes.soft | (votes.outcome == TIE), 1.0, WEIGHTS[votes.level + 1])


@dataclass(frozen=True, slots=True)
class FittedShare:
    """alpha: virtual votes a side."""

    alpha: float

    def p_a(self, votes: VoteTable) -> Floats:
        return share(votes, self.alpha)

    def error_rates(self) -> Floats | None:
        return None


class VoteShare:
    """Laplace's rule: nothing is fitted."""

    def fit(self, train: VoteTable) -> FittedShare:
        del train
        return FittedShare(1.0)

    def why_not(self, table: VoteTable) -> str | None:
        del table
        return None


class LeaveOneOutShare:
    """α by the log-loss of each vote under the share of the others on its comparison."""

    def fit(self, train: VoteTable) -> FittedShare:
        votes = others_of(train)

        def loss(log_alpha: float) -> float:
            return held_out_loss(log_alpha, *votes)

        log_alpha = lowest(loss, -MOST_LOG_ALPHA, MOST_LOG_ALPHA)
        return FittedShare(float(np.exp(log_alpha)))

    def why_not(self, table: VoteTable) -> str | None:
        del table
        return None


def others_of(train: VoteTable) -> tuple[Floats, Floats, Floats]:
    """Of each judged vote its share, and the weight for a and in all of the others beside it."""
    votes = train.speaking
    weight = weights_of(votes)
    for_a, total = weighted_sums(votes)
    judged = votes.judged() & (votes.counts[votes.item] > 1)
    item, share, weight = votes.item[judged], votes.share[judged], weight[judged]
    return share, for_a[item] - weight * share, total[item] - weight


def held_out_loss(log_alpha: float, share: Floats, for_a: Floats, total: Floats) -> float:
    """Σ −x log p − (1 − x) log(1 − p) + ½ (log α)², p = (α + for a)/(2α + total).

    The last term, log α ~ N(0, 1), keeps Laplace's α = 1 where no comparison has two votes.
    """
    alpha = np.exp(log_alpha)
    # A sum less one of its terms may fall below 0 by rounding.
    for_a = np.clip(for_a, 0.0, total)
    loss = np.log(2 * alpha + total) - share * np.log(alpha + for_a)
    loss -= (1 - share) * np.log(alpha + total - for_a)
    return float(loss.sum() + 0.5 * log_alpha**2)
