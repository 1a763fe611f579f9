"""How far raters agree: Krippendorff's α, quadratic κ, Gwet's AC1, each with its interval.

A vote's value is its strength towards a, from −3 (b much better) over 0 (a tie) to 3. Where a vote
for a side has no strength, all are taken by side alone: −1, 0, 1. AC1 takes the outcomes as they
are, both_bad among them. What is undefined is None: of unanimous votes α and κ say nothing,
because nothing could have gone wrong by chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from prefkit.aggregation.interval import N_RESAMPLES, Estimate, bootstrap
from prefkit.aggregation.numeric import sparse
from prefkit.aggregation.table import Floats, Indices, VoteTable

Level = Literal["nominal", "ordinal", "interval"]
Scale = Literal["graded", "sides"]
N_OUTCOMES = 4
IN_COMMON = 10  # comparisons that two raters share before they have a κ
_SIGN = np.array([1.0, -1.0, 0.0, 0.0])  # of the outcomes a, b, tie, both_bad


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the votes of a table agree.

    n_comparisons: with two votes or more; n_votes: on those. kappa: over every two raters with
    IN_COMMON comparisons or more. why: name of a measure that is None → why it is.
    """

    n_comparisons: int
    n_votes: int
    scale: Scale
    alpha: Estimate | None
    kappa: Estimate | None
    ac1: Estimate | None
    why: dict[str, str]


def agreement(table: VoteTable, *, seed: int = 0, n: int = N_RESAMPLES) -> Agreement:
    """How far the votes of ``table`` agree, with intervals from ``n`` resamples of comparisons."""
    speaking = table.speaking
    value, scale = values(speaking)
    item = speaking.item
    alpha = bootstrap(_coincidences(value, item), _alpha_of(value, "ordinal"), seed=seed, n=n)
    pairs = _Pairs.of(value, item, speaking.rater)
    kappa = bootstrap(pairs.parts(), _kappa_of, seed=seed, n=n)
    ac1 = bootstrap(_ac1_parts(table.outcome, table.item, N_OUTCOMES), _ac1_of, seed=seed, n=n)
    n_each = np.bincount(table.item, minlength=table.n_items)
    shared = n_each >= 2
    return Agreement(
        n_comparisons=int(shared.sum()),
        n_votes=int(n_each[shared].sum()),
        scale=scale,
        alpha=alpha,
        kappa=kappa,
        ac1=ac1,
        why=_why(value, item, pairs, {"alpha": alpha, "kappa": kappa, "ac1": ac1}),
    )


def values(table: VoteTable) -> tuple[Floats, Scale]:
    """The value of each vote, (n,), and whether it says how much better a side is."""
    sign = _SIGN[table.outcome]
    if len(table) and not np.any((table.level < 1) & (sign != 0)):
        return sign * np.where(sign != 0, table.level, 0), "graded"
    return sign, "sides"


def krippendorff_alpha(value: Floats, item: Indices, level: Level = "ordinal") -> float | None:
    """Krippendorff's α (2011, "Computing Krippendorff's Alpha-Reliability") of any raters.

    value, item: by vote. Items with one vote are left out. None where no item has two votes, or
    where all values are the same.
    """
    parts = _coincidences(value, item)
    return _plain(_alpha_of(value, level)(parts.sum(axis=0, keepdims=True)))


def quadratic_kappa(x: Floats, y: Floats) -> float | None:
    """Cohen's κ of two raters with weights (x − y)² (Cohen 1968); None where chance gives no
    disagreement at all, or there is nothing to compare.
    """
    parts = np.stack(_moments(x, y), axis=1)
    return _plain(_kappa_of(parts.sum(axis=0, keepdims=True)))


def gwet_ac1(category: Indices, item: Indices, n_categories: int) -> float | None:
    """Gwet's AC1 (2008) of any raters; None where no item has two votes.

    n_categories: those a rater could have chosen, at least 2. Items with one vote say how common
    each category is.
    """
    parts = _ac1_parts(category, item, n_categories)
    return _plain(_ac1_of(parts.sum(axis=0, keepdims=True)))


def _plain(values: Floats) -> float | None:
    return None if np.isnan(values[0]) else float(values[0])


# α


def _coincidences(value: Floats, item: Indices) -> Floats:
    """What each item with two votes or more adds to the coincidences, (items, kinds · kinds)."""
    kinds, at = np.unique(value, return_inverse=True)
    n_kinds = len(kinds)
    _, row = np.unique(item, return_inverse=True)
    n_items = int(row.max()) + 1 if len(row) else 0
    counts = np.bincount(row * n_kinds + at, minlength=n_items * n_kinds)
    counts = counts.reshape(n_items, n_kinds).astype(np.float64)
    counts = counts[counts.sum(axis=1) >= 2]
    # Every vote with every other of its item, each item's votes weighing as one another's.
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(n_kinds)
    pairs /= (counts.sum(axis=1) - 1)[:, None, None]
    return pairs.reshape(len(counts), n_kinds * n_kinds)


def _alpha_of(value: Floats, level: Level) -> Any:
    kinds = np.unique(value)

    def alpha(totals: Floats) -> Floats:
        seen = totals.reshape(*totals.shape[:-1], len(kinds), len(kinds))
        each = seen.sum(axis=-1)
        n = each.sum(axis=-1)
        if level == "ordinal":
            # The rank in the middle of each kind: between two of them lie the votes that do.
            at = np.cumsum(each, axis=-1) - each / 2
        else:
            at = np.broadcast_to(kinds, each.shape)
        apart = (at[..., :, None] - at[..., None, :]) ** 2
        if level == "nominal":
            apart = 1.0 - np.eye(len(kinds))
        observed = (seen * apart).sum(axis=(-1, -2))
        expected = (each[..., :, None] * each[..., None, :] * apart).sum(axis=(-1, -2))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(expected > 0, 1 - (n - 1) * observed / expected, np.nan)

    return alpha


# κ


@dataclass(frozen=True)
class _Pairs:
    """Every two votes of two raters on one item: their item, which two raters, their values."""

    item: Indices
    who: Indices
    x: Floats
    y: Floats

    @classmethod
    def of(cls, value: Floats, item: Indices, rater: Indices) -> _Pairs:
        """All pairs of raters who have IN_COMMON items or more in common, numbered from 0."""
        order = np.lexsort((rater, item))
        item, rater, value = item[order], rater[order], value[order]
        most = int(np.bincount(item).max()) if len(item) else 0
        first, second = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for apart in range(1, most):
            here = np.flatnonzero(item[apart:] == item[:-apart])
            first.append(here)
            second.append(here + apart)
        i, j = np.concatenate(first), np.concatenate(second)
        i, j = i[rater[i] != rater[j]], j[rater[i] != rater[j]]
        n_raters = int(rater.max()) + 1 if len(rater) else 0
        _, who, n = np.unique(
            rater[i] * n_raters + rater[j], return_inverse=True, return_counts=True
        )
        kept = n[who] >= IN_COMMON if len(who) else np.zeros(0, dtype=bool)
        _, who = np.unique(who[kept], return_inverse=True)
        i, j = i[kept], j[kept]
        return cls(item[i], who.astype(np.int64), value[i], value[j])

    def parts(self) -> Any:
        """What each item adds to the five sums of each two raters, (items, 5 · pairs), sparse.

        Only items that say anything are rows: the others are not drawn either.
        """
        known, row = np.unique(self.item, return_inverse=True)
        n_pairs = int(self.who.max()) + 1 if len(self.who) else 0
        moments = _moments(self.x, self.y)
        return sparse(
            np.tile(row.astype(np.int64), len(moments)),
            np.concatenate([self.who * len(moments) + index for index in range(len(moments))]),
            np.concatenate(moments),
            (len(known), len(moments) * n_pairs),
        )


def _moments(x: Floats, y: Floats) -> tuple[Floats, ...]:
    return np.ones(len(x)), x, y, (x - y) ** 2, x**2 + y**2


def _kappa_of(totals: Floats) -> Floats:
    """κ over all pairs of raters: what they are apart, against what chance would put them apart.

    Of two raters this is their κ; of more, the mean of the κ of each two (Light 1971), each
    weighing as the disagreement that chance gives it. Chance: E(x − y)² for independent x and y
    with each one's own distribution.
    """
    sums_of = totals.reshape(*totals.shape[:-1], -1, 5)
    n, x, y, apart, squares = (sums_of[..., index] for index in range(5))
    by_chance = squares - 2 * x * y / np.maximum(n, 1)
    observed, expected = apart.sum(axis=-1), by_chance.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Rounding leaves a trace where every vote is the same.
        return np.where(expected > 1e-9, 1 - observed / expected, np.nan)


# AC1


def _ac1_parts(category: Indices, item: Indices, n_categories: int) -> Floats:
    """By item: its share of each category, one, the agreement of two of its votes, whether it
    has two, (items, categories + 3)."""
    _, row = np.unique(item, return_inverse=True)
    n_items = int(row.max()) + 1 if len(row) else 0
    counts = np.bincount(row * n_categories + category, minlength=n_items * n_categories)
    counts = counts.reshape(n_items, n_categories).astype(np.float64)
    n = counts.sum(axis=1)
    agreed = (counts * (counts - 1)).sum(axis=1) / np.maximum(n * (n - 1), 1)
    several = (n >= 2).astype(np.float64)
    shares = counts / np.maximum(n, 1)[:, None]
    return np.column_stack([shares, np.ones(n_items), agreed * several, several])


def _ac1_of(totals: Floats) -> Floats:
    shares, n = totals[..., :-3], totals[..., -3]
    agreed, several = totals[..., -2], totals[..., -1]
    p = shares / np.maximum(n, 1)[..., None]
    by_chance = (p * (1 - p)).sum(axis=-1) / (shares.shape[-1] - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = np.where(several > 0, agreed / several, np.nan)
    return (observed - by_chance) / (1 - by_chance)


# Words


def _why(
    value: Floats, item: Indices, pairs: _Pairs, found: dict[str, Estimate | None]
) -> dict[str, str]:
    undefined = [name for name, estimate in found.items() if estimate is None]
    if not undefined:
        return {}
    n_each = np.bincount(item) if len(item) else np.zeros(1)
    if n_each.max() < 2:
        reason = "no comparison has two votes"
    else:
        shared = value[n_each[item] >= 2]
        reason = "all votes say the same, so chance alone would agree as well"
        if len(np.unique(shared)) > 1 and not len(pairs.who):
            reason = f"no two raters have {IN_COMMON} comparisons in common"
    return dict.fromkeys(undefined, reason)
