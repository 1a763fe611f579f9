"""Adaptive overlap: how many votes a comparison wants, from the votes it has.

The share of votes for a is p ~ Beta(1 + Σ share, 1 + Σ (1 − share)), a tie being half a vote for
each. Once P(p > ½) or P(p < ½) reaches ``sure`` there are votes enough. Stopping where it is
decided makes the raw share more extreme than it is; the random slice, which has k votes whatever
they say, shows by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from prefkit.annotation.settings import Overlap
from prefkit.store.ledger import Wanted

_SHARES = {"a": 1.0, "b": 0.0, "tie": 0.5}


def wanting(overlap: Overlap) -> Wanted | None:
    """``wanted`` for these settings; None where every comparison wants k votes."""
    if overlap.most is None:
        return None
    return lambda choices, k: wanted(choices, k, overlap)


def wanted(choices: Sequence[str], k: int, overlap: Overlap) -> int:
    """How many votes a task with these counted choices wants, at least its k so far.

    A task that most raters found both bad or invalid is decided: there is no better side.
    """
    if overlap.most is None or len(choices) < k or k >= overlap.most:
        return k
    shares = [_SHARES[choice] for choice in choices if choice in _SHARES]
    if 2 * len(shares) < len(choices):
        return k
    return k if certainty(sum(shares), len(shares) - sum(shares)) >= overlap.sure else k + 1


@lru_cache(maxsize=4096)
def certainty(for_a: float, for_b: float) -> float:
    """P(the side that leads is the better one) under a flat prior; ½ where none leads."""
    from scipy.special import betainc

    p_b = float(betainc(1 + for_a, 1 + for_b, 0.5))
    return max(p_b, 1 - p_b)
