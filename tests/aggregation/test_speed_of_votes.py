"""Agreement by time in view: counted as by hand, and planted haste is seen."""

from __future__ import annotations

import numpy as np
import pytest
from store_cases import pair, vote

from prefkit.aggregation.speed import FEWEST, FIFTHS, agreement_by_speed


def drawn(seed, n, *, hasty=0.0):
    """n comparisons, three raters; a vote under 2 s says anything with probability ``hasty``."""
    rng = np.random.default_rng(seed)
    comparisons = [pair(f"question {k}") for k in range(n)]
    votes = []
    for comparison in comparisons:
        truth = rng.random() < 0.5
        for rater in ("kim", "lee", "rae"):
            ms = int(rng.integers(500, 9000))
            says = rng.random() < 0.5 if ms < 2000 and rng.random() < hasty else truth
            votes.append(vote(comparison, rater, "a" if says else "b", active_ms=ms))
    return comparisons, votes


def test_haste_shows_at_the_quick_end():
    comparisons, votes = drawn(0, 400, hasty=1.0)
    found = agreement_by_speed(votes, comparisons)
    assert len(found) == FIFTHS
    assert sum(each.n_votes for each in found) <= len(votes)
    assert found[0].high_ms <= found[1].low_ms
    assert found[0].agreement.high < found[-1].agreement.low
    even = agreement_by_speed(*drawn(0, 400)[::-1])
    assert {each.agreement.value for each in even} == {1.0}


def test_each_fifth_is_what_counting_gives():
    comparisons, votes = drawn(1, 60, hasty=0.7)
    rows = []
    for one in votes:
        others = [v.choice for v in votes if v.comparison_id == one.comparison_id and v is not one]
        if others.count("a") != others.count("b"):
            rows.append((one.active_ms, one.choice == max(set(others), key=others.count)))
    rows.sort(key=lambda row: row[0])
    found = agreement_by_speed(votes, comparisons)
    parts = np.array_split(np.array([hit for _, hit in rows], dtype=float), FIFTHS)
    assert [each.agreement.value for each in found] == pytest.approx([p.mean() for p in parts])
    assert [each.n_votes for each in found] == [len(part) for part in parts]


def test_few_votes_and_votes_without_a_time_say_nothing():
    comparisons, votes = drawn(2, (FIFTHS * FEWEST) // 3 - 1)
    assert agreement_by_speed(votes, comparisons) == []
    comparisons, votes = drawn(2, 100)
    timeless = [vote(c, r, "a") for c in comparisons for r in ("kim", "lee", "rae")]
    assert agreement_by_speed(timeless, comparisons) == []
    assert agreement_by_speed([], []) == []
