"""The side with more votes, and nothing else: a baseline to compare with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefkit.aggregation.numeric import sums
from prefkit.aggregation.table import Floats, VoteTable

SURE = 0.98


@dataclass(frozen=True, slots=True)
class FittedMajority:
    """0.98 for the side with more votes (a tie is half a vote for each), 0.5 where they are even.

    Strengths are not read: this is what is thrown away by keeping a hard label.
    """

    def p_a(self, votes: VoteTable) -> Floats:
        speaking = votes.speaking
        lead = sums(speaking.item, 2 * speaking.share - 1, votes.n_items)
        # A sum of machines' shares may miss 0 by rounding.
        return 0.5 + np.where(np.abs(lead) < 1e-9, 0.0, np.sign(lead)) * (SURE - 0.5)

    def error_rates(self) -> Floats | None:
        return None


class Majority:
    """Nothing is fitted."""

    def fit(self, train: VoteTable) -> FittedMajority:
        del train
        return FittedMajority()

    def why_not(self, table: VoteTable) -> str | None:
        del table
        return None
