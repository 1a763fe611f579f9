"""When a round has votes enough to be frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from prefkit.aggregation.votes import standing_votes
from prefkit.core.records import Comparison, Vote

# What counts as an answer to a comparison: everything but "ask somebody else" and "taken back".
ANSWERS = ("a", "b", "tie", "both_bad", "invalid")


@dataclass(frozen=True, slots=True)
class Quorum:
    """done: comparisons of a round that have k answers; wanted: how many must."""

    done: int
    wanted: int

    @property
    def met(self) -> bool:
        return self.done >= self.wanted


def count_answers(votes: Sequence[Vote]) -> Counter[str]:
    """Standing answers a comparison: replaced, withdrawn and skipped votes left out."""
    standing, _ = standing_votes(votes)
    return Counter(vote.comparison_id for vote in standing if vote.choice in ANSWERS)


def quorum(
    comparisons: Sequence[Comparison], votes: Sequence[Vote], *, k: int, share: float
) -> Quorum:
    """How far a round is; ``share`` in (0, 1] of its comparisons need k answers each."""
    answers = count_answers(votes)
    done = sum(answers[comparison.id] >= k for comparison in comparisons)
    # As a fraction of its shortest decimal: 0.07 · 100 is 7.000000000000001 in floats.
    return Quorum(done, ceil(len(comparisons) * Fraction(str(share))))
