"""A 95 % interval for the mean of outcomes in [0, 1], of which some are ties.

The score interval (Wilson 1927) rests on the variance p(1 − p) of a yes or no. A tie (½) varies
less: for outcomes x with mean p, Var x = p(1 − p) − E[x(1 − x)]. Put that into Wilson's equation,

    (p̂ − p)² = z²/n · (p(1 − p) − t),      t = E[x(1 − x)],

and solve for p. Without ties it is Wilson's interval. t is estimated with z² outcomes of no tie
added, so that n ties in a row still give an interval with a width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Z95 = 1.959963984540054


def score_interval(outcomes: Sequence[float]) -> tuple[float, float]:
    """(low, high) for the mean of ``outcomes`` (each in [0, 1]), inside [0, 1], never empty.

    Raises ValueError for no outcomes or one outside [0, 1]. Outcomes count as independent.
    """
    n = len(outcomes)
    if n == 0:
        raise ValueError("no outcomes")
    if not all(0.0 <= x <= 1.0 for x in outcomes):
        raise ValueError("an outcome is outside [0, 1]")
    c = Z95**2 / n
    mean = math.fsum(outcomes) / n
    tied = math.fsum(x * (1 - x) for x in outcomes) / (n + Z95**2)
    # (1 + c) p² − (2 mean + c) p + mean² + c tied = 0
    middle = (2 * mean + c) / (2 * (1 + c))
    inner = middle**2 - (mean**2 + c * tied) / (1 + c)
    half = math.sqrt(max(0.0, inner))
    return max(0.0, middle - half), min(1.0, middle + half)
