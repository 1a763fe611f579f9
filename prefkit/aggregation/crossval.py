"""Nested cross-validation by comparison: what a method says of votes that it has not seen.

A held-out vote is predicted from the other votes on its comparison, by parameters that were
fitted on other comparisons. What is chosen (temperature, method) is chosen inside: for outer fold
o by the predictions of the folds f ≠ o under fits that saw neither o nor f. Such a fit serves both
(o, f) and (f, o), so five folds take fifteen fits a method instead of thirty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from prefkit.aggregation.methods import Aggregator, Fitted, Method
from prefkit.aggregation.scores import (
    Bin,
    Interval,
    bootstrap,
    brier,
    calibration_error,
    fit_temperature,
    log_loss,
    logit_of,
    reliability,
    tempered,
)
from prefkit.aggregation.table import Bools, Floats, Indices, VoteTable
from prefkit.core.rng import derive_seed

N_FOLDS = 5
MOST_TARGETS = 5  # held-out votes of one comparison
MOST_VOTES = 10_000  # comparisons drawn at random until they have so many votes are scored
BASELINE = "vote_share"


@dataclass(frozen=True)
class Plan:
    """Who predicts what. table: one vote a rater and comparison. fold: of each item, −1 where it
    has no second vote to predict. rank: of each vote within its item, by lot; n_of: the votes of
    its item. targets: numbers of the held-out votes.
    """

    table: VoteTable
    fold: Indices
    rank: Indices
    n_of: Indices
    targets: Indices

    @property
    def n_rounds(self) -> int:
        return int(self.rank[self.targets].max(initial=-1)) + 1

    def seen(self, turn: int, size: int | None) -> Bools:
        """The votes that may be looked at when those of rank ``turn`` are predicted.

        size: at most so many an item, other ones each turn; None: all the others.
        """
        others = self.rank != turn
        if size is None:
            return others
        return others & ((self.rank - turn - 1) % np.maximum(self.n_of, 1) < size)

    def at(self, size: int | None) -> Bools:
        """The targets that have ``size`` other votes on their comparison, (n_targets,)."""
        return self.n_of[self.targets] > (size or 1)


@dataclass(frozen=True)
class MethodScore:
    """One method on held-out votes. raw: log-loss before the temperature. versus: log-loss less
    that of the vote share, None for itself. temperature: the one of all folds together.
    """

    name: str
    log_loss: Interval
    brier: Interval
    versus: Interval | None
    raw_log_loss: float
    temperature: float
    calibration_error: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Evaluation:
    """methods: in the order of registration. picked: the eligible one with the least log-loss.

    auto: the score of picking, each fold by a choice made without it. size: votes a comparison
    that were looked at, None for all but the held-out one. left_out: methods that do not apply,
    and why.
    """

    n_comparisons: int
    n_votes: int
    size: int | None
    picked: str
    methods: tuple[MethodScore, ...]
    auto: MethodScore
    left_out: Mapping[str, str]

    def score(self, name: str) -> MethodScore:
        return next(found for found in self.methods if found.name == name)


def make_plan(table: VoteTable, *, seed: int = 0, most_votes: int = MOST_VOTES) -> Plan:
    """Folds and held-out votes; the same for the same votes in any order."""
    rng = np.random.default_rng(derive_seed("folds", seed))
    table = table.where(_first_words(table)).compact()
    lot = rng.permutation(table.n_items)
    order_of = np.empty(table.n_items, dtype=np.int64)  # by id, so that no file order counts
    order_of[np.argsort(np.array(table.items))] = lot
    if len(table) > most_votes:
        kept = np.zeros(table.n_items, dtype=np.bool_)
        by_lot = np.argsort(order_of)
        kept[by_lot[: np.searchsorted(np.cumsum(table.counts[by_lot]), most_votes) + 1]] = True
        table = table.where(kept[table.item]).compact()
        order_of = order_of[kept]
    order = np.lexsort((rng.permutation(len(table)), table.item))
    starts = np.cumsum(table.counts) - table.counts
    rank = np.empty(len(table), dtype=np.int64)
    rank[order] = np.arange(len(table)) - starts[table.item[order]]
    n_of = table.counts[table.item]
    targets = np.flatnonzero(table.judged() & (n_of > 1) & (rank < MOST_TARGETS))
    fold = np.full(table.n_items, -1, dtype=np.int64)
    tested = np.unique(table.item[targets])
    fold[tested[np.argsort(order_of[tested])]] = np.arange(len(tested)) % N_FOLDS
    return Plan(table, fold, rank, n_of, targets)


def _first_words(table: VoteTable) -> Bools:
    """The first vote of each rater on each comparison: a repeat is not a fresh rater's."""
    first = np.zeros(len(table), dtype=np.bool_)
    first[np.unique(table.item * table.n_raters + table.rater, return_index=True)[1]] = True
    return first


class Splits:
    """The training votes of every pair of folds, made once for all methods."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.vote_fold = plan.fold[plan.table.item]
        self.trains = {
            (o, f): plan.table.where((self.vote_fold != o) & (self.vote_fold != f))
            for o, f in combinations_with_replacement(range(N_FOLDS), 2)
        }

    def predict(self, method: Method, sizes: Sequence[int | None]) -> list[Floats]:
        """P(a) of every target, for each size: (N_FOLDS, n_targets).

        Row o: by a fit that saw neither fold o nor the target's own.
        """
        found = [np.full((N_FOLDS, len(self.plan.targets)), np.nan) for _ in sizes]
        for (o, f), train in self.trains.items():
            fitted = method.fit(train)
            for held, row in {(f, o), (o, f)}:
                for number, size in enumerate(sizes):
                    self._ask(fitted, held, size, found[number][row])
        return found

    def _ask(self, fitted: Fitted, held: int, size: int | None, found: Floats) -> None:
        """Fill in P(a) of the targets of fold ``held``."""
        plan, targets = self.plan, self.plan.targets
        here, rank = self.vote_fold[targets] == held, plan.rank[targets]
        for turn in range(plan.n_rounds):
            asked = here & (rank == turn)
            seen = plan.table.where((self.vote_fold == held) & plan.seen(turn, size))
            found[asked] = fitted.p_a(seen)[plan.table.item[targets[asked]]]


def evaluate(
    methods: Mapping[str, Aggregator],
    plan: Plan,
    *,
    sizes: Sequence[int | None] = (None,),
    seed: int = 0,
) -> list[Evaluation]:
    """Every method that applies, scored on the held-out votes: one Evaluation for each size.

    The targets of a size are the votes that have so many others beside them.
    """
    reasons = {
        name: entry.method.why_not(plan.table) if entry.method else "a plain function"
        for name, entry in methods.items()
    }
    used = {name: entry for name, entry in methods.items() if reasons[name] is None}
    splits = Splits(plan)
    said = {name: splits.predict(e.method, sizes) for name, e in used.items() if e.method}
    left_out = {name: reason for name, reason in reasons.items() if reason}
    return [
        _score(used, plan, size, {name: by[number] for name, by in said.items()}, left_out, seed)
        for number, size in enumerate(sizes)
    ]


def _score(
    used: Mapping[str, Aggregator],
    plan: Plan,
    size: int | None,
    said: Mapping[str, Floats],
    left_out: Mapping[str, str],
    seed: int,
) -> Evaluation:
    asked = plan.at(size)
    targets = plan.targets[asked]
    item, share = plan.table.item[targets], plan.table.share[targets]
    fold = plan.fold[item]
    n_seen = plan.n_of[targets] - 1
    n_seen = n_seen if size is None else np.minimum(n_seen, size)
    outer = _Outer(share, fold, n_seen)
    results = {name: outer.run(p[:, asked], used[name].tempered) for name, p in said.items()}
    eligible = [name for name in results if used[name].eligible]
    picked = [min(eligible, key=lambda name: results[name].inner[o]) for o in range(N_FOLDS)]
    p_auto = np.choose(fold, [results[name].p for name in picked])
    best = min(eligible, key=lambda name: results[name].overall)
    columns = {**{name: result.p for name, result in results.items()}, "auto": p_auto}
    losses = {name: log_loss(logit_of(p), share) for name, p in columns.items()}
    intervals = bootstrap(
        np.stack(
            [
                *losses.values(),
                *(brier(p, share) for p in columns.values()),
                *(loss - losses[BASELINE] for loss in losses.values()),
            ],
            axis=1,
        ),
        item,
        seed=derive_seed("bootstrap", seed),
    )
    n = len(columns)
    scored: dict[str, MethodScore] = {}
    for index, (name, p) in enumerate(columns.items()):
        bins = reliability(p, share)
        of = results[best if name == "auto" else name]
        scored[name] = MethodScore(
            name,
            intervals[index],
            intervals[n + index],
            None if name == BASELINE else intervals[2 * n + index],
            of.raw,
            of.temperature,
            calibration_error(bins),
            bins,
        )
    auto = scored.pop("auto")
    return Evaluation(
        len(np.unique(item)), len(targets), size, best, tuple(scored.values()), auto, left_out
    )


@dataclass(frozen=True, slots=True)
class _Result:
    """p: outer predictions, (n,). inner: loss by which each fold's choice is made, (N_FOLDS,)."""

    p: Floats
    inner: list[float]
    overall: float
    raw: float
    temperature: float


@dataclass(frozen=True, slots=True)
class _Outer:
    """The held-out votes of one size: share (n,), fold (n,), votes looked at (n,)."""

    share: Floats
    fold: Indices
    n_seen: Indices

    def run(self, said: Floats, is_tempered: bool) -> _Result:
        """said: (N_FOLDS, n), as ``predict`` gives it."""
        own = np.take_along_axis(said, self.fold[None], axis=0)[0]
        p = np.empty(len(own))
        inner: list[float] = []
        for o in range(N_FOLDS):
            rest, held = self.fold != o, self.fold == o
            temperature = self._temperature(said[o], rest, is_tempered)
            inner.append(self._loss(said[o], rest, temperature, is_tempered))
            p[held] = self._final(own, held, temperature, is_tempered)
        every = np.ones(len(own), dtype=np.bool_)
        overall = self._temperature(own, every, is_tempered)
        return _Result(
            p,
            inner,
            self._loss(own, every, overall, is_tempered),
            self._loss(own, every, 1.0, is_tempered),
            overall,
        )

    def _temperature(self, p: Floats, kept: Bools, is_tempered: bool) -> float:
        return fit_temperature(logit_of(p[kept]), self.share[kept]) if is_tempered else 1.0

    def _final(self, p: Floats, kept: Bools, temperature: float, is_tempered: bool) -> Floats:
        return tempered(p[kept], temperature, self.n_seen[kept]) if is_tempered else p[kept]

    def _loss(self, p: Floats, kept: Bools, temperature: float, is_tempered: bool) -> float:
        final = self._final(p, kept, temperature, is_tempered)
        return float(log_loss(logit_of(final), self.share[kept]).mean()) if kept.any() else 0.0
