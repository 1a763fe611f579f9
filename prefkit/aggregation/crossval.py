"""Nested cross-validation by comparison: what a method says of votes that it has not seen.

A held-out vote is predicted from the other votes on its comparison, by parameters that were
fitted on other comparisons. What is chosen (temperature, method) is chosen inside: for outer fold
o by the predictions of the folds f ≠ o under fits that saw neither o nor f. Such a fit serves both
(o, f) and (f, o), so five folds take fifteen fits a method instead of twenty-five.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import numpy as np

from prefkit.aggregation.methods import Aggregator, Fitted, Method
from prefkit.aggregation.numeric import components
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
BASELINE, AUTO = "vote_share", "auto"


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
    """methods: in the order of registration. picked: the eligible one with the least log-loss;
    picks: by all folds but one, each.

    auto: the score of picking, each fold by a choice made without it. size: votes a comparison
    that were looked at, None for all but the held-out one. left_out: methods that do not apply,
    and why.
    """

    n_comparisons: int
    n_votes: int
    size: int | None
    picked: str
    picks: tuple[str, ...]
    methods: tuple[MethodScore, ...]
    auto: MethodScore
    left_out: Mapping[str, str]

    def score(self, name: str) -> MethodScore:
        return next(found for found in self.methods if found.name == name)


def make_plan(table: VoteTable, *, seed: int = 0, most_votes: int = MOST_VOTES) -> Plan:
    """Folds and held-out votes; the same for the same votes in any order.

    Of more than ``most_votes`` votes, comparisons are drawn by lot, those that share answers
    together.
    """
    rng = np.random.default_rng(derive_seed("folds", seed))
    table = table.where(_first_words(table)).compact()
    # By id, so that the order of a file does not count.
    place = np.argsort(np.argsort(np.array(table.items)))
    lot = rng.permutation(table.n_items)
    if len(table) > most_votes:
        table, place = _sample(table, place, lot, most_votes)
    order = np.lexsort((rng.permutation(len(table)), table.item))
    starts = np.cumsum(table.counts) - table.counts
    rank = np.empty(len(table), dtype=np.int64)
    rank[order] = np.arange(len(table)) - starts[table.item[order]]
    n_of = table.counts[table.item]
    targets = np.flatnonzero(table.judged() & (n_of > 1) & (rank < MOST_TARGETS))
    fold = np.full(table.n_items, -1, dtype=np.int64)
    tested = np.unique(table.item[targets])
    fold[tested[np.argsort(lot[place[tested]])]] = np.arange(len(tested)) % N_FOLDS
    return Plan(table, fold, rank, n_of, targets)


def _sample(
    table: VoteTable, place: Indices, lot: Indices, most_votes: int
) -> tuple[VoteTable, Indices]:
    """About ``most_votes`` votes on whole comparisons, and the places of these by id."""
    group = components(table.first, table.second, table.n_responses)[table.first]
    earliest = np.full(table.n_responses, table.n_items)
    np.minimum.at(earliest, group, place)
    order = np.lexsort((lot[place], lot[earliest[group]]))
    n_kept = int(np.searchsorted(np.cumsum(table.counts[order]), most_votes)) + 1
    kept = np.zeros(table.n_items, dtype=np.bool_)
    kept[order[:n_kept]] = True
    return table.where(kept[table.item]).compact(), place[kept]


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
            (o, f): (self.vote_fold != o) & (self.vote_fold != f)
            for o, f in combinations_with_replacement(range(N_FOLDS), 2)
        }
        self.tables = {pair: plan.table.where(train) for pair, train in self.trains.items()}

    def predict(self, method: Method, sizes: Sequence[int | None]) -> list[Floats]:
        """P(a) of every target, for each size: (N_FOLDS, n_targets).

        Row o: by a fit that saw neither fold o nor the target's own.
        """
        found = [np.full((N_FOLDS, len(self.plan.targets)), np.nan) for _ in sizes]
        for (o, f), train in self.trains.items():
            fitted = method.fit(self.tables[o, f])
            for held, row in {(f, o), (o, f)}:
                for number, size in enumerate(sizes):
                    self._ask(fitted, train, held, size, found[number][row])
        return found

    def _ask(
        self, fitted: Fitted, train: Bools, held: int, size: int | None, found: Floats
    ) -> None:
        """Fill in P(a) of the targets of fold ``held``; train: the votes that were fitted to.

        Where a size is asked for, the comparisons beside the held-out ones have no more votes
        either: answers are shared, and what is known of them would say more than the size does.
        """
        plan, targets = self.plan, self.plan.targets
        here, rank = self.vote_fold[targets] == held, plan.rank[targets]
        open_to_all = self.vote_fold == held
        if size is not None:
            open_to_all = open_to_all | train
        for turn in range(plan.n_rounds):
            asked = here & (rank == turn)
            seen = plan.table.where(open_to_all & plan.seen(turn, size))
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
    """said: P(a) of every target by method, (N_FOLDS, n_targets)."""
    asked = plan.at(size)
    held = _held_out(plan, plan.targets[asked], size)
    results = {name: held.run(p[:, asked], used[name].tempered) for name, p in said.items()}
    eligible = [name for name in results if used[name].eligible]
    picks = [min(eligible, key=lambda name: results[name].inner[o]) for o in range(N_FOLDS)]
    best = min(eligible, key=lambda name: results[name].overall)
    of_picks = np.choose(held.fold, [results[name].p for name in picks])
    results[AUTO] = replace(results[best], p=of_picks)
    scores = _method_scores(results, held, seed)
    return Evaluation(
        n_comparisons=len(np.unique(held.item)),
        n_votes=len(held.item),
        size=size,
        picked=best,
        picks=tuple(picks),
        methods=tuple(scores[:-1]),
        auto=scores[-1],
        left_out=left_out,
    )


def _method_scores(results: Mapping[str, _Result], held: _HeldOut, seed: int) -> list[MethodScore]:
    losses = [log_loss(logit_of(result.p), held.share) for result in results.values()]
    briers = [brier(result.p, held.share) for result in results.values()]
    versus = [loss - losses[list(results).index(BASELINE)] for loss in losses]
    columns = np.stack([*losses, *briers, *versus], axis=1)
    found = bootstrap(columns, held.item, seed=derive_seed("bootstrap", seed))
    n = len(results)
    scores: list[MethodScore] = []
    for index, (name, result) in enumerate(results.items()):
        bins = reliability(result.p, held.share)
        scores.append(
            MethodScore(
                name,
                log_loss=found[index],
                brier=found[n + index],
                versus=None if name == BASELINE else found[2 * n + index],
                raw_log_loss=result.raw,
                temperature=result.temperature,
                calibration_error=calibration_error(bins),
                bins=bins,
            )
        )
    return scores


@dataclass(frozen=True, slots=True)
class _Result:
    """p: of every held-out vote, by choices made without its fold, (n,). inner: the loss by which
    each fold's choice is made, (N_FOLDS,). overall, raw: that of all folds together, with the
    temperature of all and with none.
    """

    p: Floats
    inner: list[float]
    overall: float
    raw: float
    temperature: float


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """The held-out votes of one size, (n,) each. n_seen: votes that were looked at."""

    item: Indices
    share: Floats
    fold: Indices
    n_seen: Indices

    def run(self, said: Floats, is_tempered: bool) -> _Result:
        """said: (N_FOLDS, n), as ``predict`` gives it."""
        own = np.take_along_axis(said, self.fold[None], axis=0)[0]
        every = np.ones(len(own), dtype=np.bool_)
        p = np.empty(len(own))
        inner: list[float] = []
        for o in range(N_FOLDS):
            rest = self.fold != o
            temperature = self._temperature(said[o], rest, is_tempered)
            inner.append(self._loss(said[o], rest, temperature, is_tempered))
            p[~rest] = self._final(own, ~rest, temperature, is_tempered)
        temperature = self._temperature(own, every, is_tempered)
        return _Result(
            p,
            inner,
            overall=self._loss(own, every, temperature, is_tempered),
            raw=self._loss(own, every, 1.0, is_tempered),
            temperature=temperature,
        )

    def _temperature(self, p: Floats, kept: Bools, is_tempered: bool) -> float:
        return fit_temperature(logit_of(p[kept]), self.share[kept]) if is_tempered else 1.0

    def _final(self, p: Floats, kept: Bools, temperature: float, is_tempered: bool) -> Floats:
        return tempered(p[kept], temperature, self.n_seen[kept]) if is_tempered else p[kept]

    def _loss(self, p: Floats, kept: Bools, temperature: float, is_tempered: bool) -> float:
        """Mean log-loss; 0 of no votes."""
        if not kept.any():
            return 0.0
        final = self._final(p, kept, temperature, is_tempered)
        return float(log_loss(logit_of(final), self.share[kept]).mean())


def _held_out(plan: Plan, targets: Indices, size: int | None) -> _HeldOut:
    item = plan.table.item[targets]
    n_seen = plan.n_of[targets] - 1
    if size is not None:
        n_seen = np.minimum(n_seen, size)
    return _HeldOut(item, plan.table.share[targets], plan.fold[item], n_seen)
