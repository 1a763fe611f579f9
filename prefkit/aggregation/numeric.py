"""What aggregation asks of scipy, which ships no types: typed here, once."""

# pyright: basic

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, softmax

from prefkit.aggregation.table import Floats, Indices

MOST_STARTS = 3
_GOLDEN = (np.sqrt(5.0) - 1) / 2


class Top(NamedTuple):
    """x: where the search ended. found: whether the gradient there is as flat as was asked."""

    x: Floats
    found: bool


def climb(
    function: Callable[[Floats], tuple[float, Floats]],
    start: Floats,
    *,
    flat: float,
    most_steps: int,
) -> Top:
    """A local maximum by L-BFGS. function: value and gradient at x. flat: the largest component
    of the gradient at the end.
    """

    def fall(x: Floats) -> tuple[float, Floats]:
        value, gradient = function(x)
        return -value, -gradient

    options = {"maxiter": most_steps, "maxfun": 2 * most_steps, "maxcor": 20}
    options |= {"gtol": flat, "ftol": 0.0}
    for _ in range(MOST_STARTS):
        end = minimize(fall, start, jac=True, method="L-BFGS-B", options=options)
        start = end.x
        if np.abs(end.jac).max(initial=0.0) <= flat:
            return Top(start, True)
        # A line search that gains no more than rounding ends too soon: once more, with no memory.
    return Top(start, False)


def lowest(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a unimodal function is least in [low, high], to 1e-6, by golden section."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > 1e-6:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return float((low + high) / 2)


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp −x)."""
    return expit(x)


def shares(logits: Floats) -> Floats:
    """Softmax over the last axis."""
    return softmax(logits, axis=-1)


def sums(at: Indices, weights: Floats, n: int) -> Floats:
    """Sum of the weights of each of n places, (n,)."""
    return np.bincount(at, weights=weights, minlength=n).astype(np.float64)


def sparse(item: Indices, kind: Indices, weight: Floats, shape: tuple[int, int]) -> Any:
    """A compressed matrix of summed weights."""
    return csr_array((weight, (item, kind)), shape=shape)


def components(first: Indices, second: Indices, n: int) -> Indices:
    """Of n points joined by the edges (first, second), the number of each one's component, (n,)."""
    edges = coo_array((np.ones(len(first)), (first, second)), shape=(n, n))
    return connected_components(edges, directed=False)[1].astype(np.int64)
