"""A rule as rater: score both answers, compare the scores, flip some verdicts if asked to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from prefkit.core.records import Choice, Comparison
from prefkit.core.rng import derive_rng
from prefkit.judging.rules import TIE_BELOW, score_difference
from prefkit.judging.votes import Judged, machine_vote

NO_OPINION = "the rule has no opinion"


@dataclass(frozen=True, slots=True)
class RuleRater:
    """Votes by the difference d of two scores.

    |d| < tie_below is a tie (strength 0); else the higher score wins with strength 1 for
    |d| < 1/3, 2 for |d| < 2/3, 3 above. With probability ``noise`` the winner is swapped, by a
    coin that depends on the seed and the comparison alone; a tie has no winner to swap.
    """

    rule: str
    noise: float = 0.0
    seed: int = 0
    tie_below: float = TIE_BELOW

    def compare(self, comparisons: Sequence[Comparison]) -> Judged:
        """One vote for each comparison that the rule has an opinion on; the others counted."""
        votes = []
        failed: Counter[str] = Counter()
        settings = {"noise": self.noise, "seed": self.seed, "tie_below": self.tie_below}
        for comparison in comparisons:
            prompt, a, b = comparison.prompt, comparison.a.text, comparison.b.text
            difference = score_difference(self.rule, prompt, a, b)
            if difference is None:
                failed[NO_OPINION] += 1
                continue
            choice, strength = self._verdict(comparison.id, difference)
            name = f"rule:{self.rule}"
            votes.append(
                machine_vote(comparison, name, choice, strength=strength, settings=settings)
            )
        return Judged(votes, dict(failed))

    def _verdict(self, comparison_id: str, difference: float) -> tuple[Choice, int]:
        if abs(difference) < self.tie_below:
            return "tie", 0
        coin = derive_rng("label noise", self.seed, comparison_id).random()
        a_wins = (difference > 0) != (coin < self.noise)
        return ("a" if a_wins else "b"), min(3, 1 + int(abs(difference) * 3))
