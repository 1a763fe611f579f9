"""Mixtures over what each comparison hides: a class, or a score on a grid.

Votes of the same kind (rater and outcome, say) have the same likelihood, so the votes of all
items are one sparse matrix, items × kinds, and both passes are products with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prefkit.aggregation.numeric import sparse
from prefkit.aggregation.table import BOTH_BAD, TIE, A, B, Floats, Indices, VoteTable

DEEP = -600.0  # log of what a float can still hold with ease


@dataclass(frozen=True, slots=True)
class Evidence:
    """counts: (n_items, n_kinds), how much vote of each kind an item has."""

    counts: Any

    def posterior(self, log_p: Floats, log_prior: Floats) -> tuple[Floats, Floats]:
        """P(hidden | votes) of each item, (n_items, Z), and log P(votes), (n_items,).

        log_p: (n_kinds, Z). log_prior: (Z,).
        """
        joint = self.counts @ log_p + log_prior
        most = 0.0
        # A maximum a row costs more than all the rest: only where exp would come near underflow.
        if joint.min(initial=0.0) < DEEP:
            most = joint.max(axis=1)
            joint -= most[:, None]
        np.exp(joint, out=joint)
        total = joint @ np.ones(joint.shape[1])
        joint /= total[:, None]
        return joint, most + np.log(total)

    def expected(self, posterior: Floats) -> Floats:
        """Votes of each kind by hidden value, (n_kinds, Z)."""
        return self.counts.T @ posterior

    def heard(self) -> Evidence:
        """The evidence of the items that have any."""
        return Evidence(self.counts[np.diff(self.counts.indptr) > 0])


def evidence(item: Indices, kind: Indices, weight: Floats, *, shape: tuple[int, int]) -> Evidence:
    """Evidence of votes (n,); those of weight 0 are left out."""
    kept = weight > 0
    return Evidence(sparse(item[kept], kind[kept], weight[kept], shape))


def split_sides(votes: VoteTable) -> tuple[Indices, Indices, Floats]:
    """Each speaking vote as a vote for a of weight share and one for b of weight 1 − share.

    (vote number in ``votes``, outcome A or B, weight), 2n each: a tie is half a vote for each.
    """
    number = np.flatnonzero(votes.outcome != BOTH_BAD)
    share = votes.share[number]
    outcome = np.repeat(np.array([A, B], dtype=np.int64), len(number))
    return np.concatenate([number, number]), outcome, np.concatenate([share, 1 - share])


def split_outcomes(votes: VoteTable) -> tuple[Indices, Indices, Floats]:
    """As ``split_sides``, but a person's tie stays a tie and both_bad stays what it is."""
    sided = votes.soft | (votes.outcome < TIE)
    number, outcome, weight = split_sides(votes)
    kept = sided[number]
    rest = np.flatnonzero(~sided)
    return (
        np.concatenate([number[kept], rest]),
        np.concatenate([outcome[kept], votes.outcome[rest]]),
        np.concatenate([weight[kept], np.ones(len(rest))]),
    )
