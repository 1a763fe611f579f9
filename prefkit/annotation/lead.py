"""What a lead looks at: progress, agreement, biases, raters. Numbers and their plots; no HTTP.

Votes are read once and then only what is new; what takes long to compute is kept until there are
other votes. Agreement and biases are those of people on label tasks: hidden gold items, repeats
and reviewers' decisions are no part of them.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from datetime import UTC, date, datetime
from threading import Lock
from typing import Any, TypeVar, cast

import numpy as np

from prefkit.aggregation.agreement import Agreement, agreement
from prefkit.aggregation.bias import Bias, Marks, bias_table, marks_of
from prefkit.aggregation.speed import Speed, agreement_by_speed
from prefkit.aggregation.table import VoteTable, vote_table
from prefkit.aggregation.votes import counted_votes
from prefkit.annotation.forecast import Forecast, forecast
from prefkit.annotation.quality import RaterQuality, rater_quality
from prefkit.annotation.settings import AnnotateSettings
from prefkit.core.records import Comparison, Vote
from prefkit.store import VoteStore
from prefkit.store.leasing import repeat_id
from prefkit.store.queries import (
    Day,
    Progress,
    RaterFacts,
    comparisons_from,
    progress,
    progress_by_day,
    raters_table,
    votes_from,
)

SECONDS = 10.0  # for which a result is good, whatever was voted since
MOST_GROUPS = 12  # of one slice
_FULL = 20_000  # votes up to which slices get as many resamples as the whole
_FEWER = 200
_ROWS = 1000
_OVERLAP = 2000
_DIGEST = re.compile(r"[0-9a-f]{32,64}")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Overview:
    """How far the work is, by day, and when it will be done."""

    progress: Progress
    days: Sequence[Day]
    forecast: Forecast | None


@dataclass(frozen=True, slots=True)
class Slice:
    """Agreement in the groups that one property makes. left_out: groups beyond MOST_GROUPS."""

    by: str
    groups: Mapping[str, Agreement]
    left_out: int


@dataclass(frozen=True, slots=True)
class Agreed:
    """Agreement over all, by slice, and by the week of a comparison's last vote (its Monday)."""

    overall: Agreement
    slices: Sequence[Slice]
    weeks: Mapping[str, Agreement]


@dataclass(frozen=True, slots=True)
class RaterLine:
    """A rater: who they are and how much they did, and how they do (None without a vote)."""

    facts: RaterFacts
    quality: RaterQuality | None


class Lead:
    """What a lead asks for; safe for several threads."""

    def __init__(self, store: VoteStore, settings: AnnotateSettings) -> None:
        self._store = store
        self._settings = settings
        self._read = _Read(store)
        self._kept: dict[str, _Kept] = {}
        self._lock = Lock()

    def overview(self, today: date | None = None) -> Overview:
        """How far the work is. today: in UTC."""
        database = self._store.database
        so_far, days = progress(database), progress_by_day(database)
        return Overview(so_far, days, forecast(so_far, days, today or datetime.now(UTC).date()))

    def agreement(self) -> Agreed:
        """How far people agree."""
        return self._keep("agreement", _agreed)

    def biases(self) -> list[Bias]:
        """What pulls people's votes."""
        return self._keep("biases", _biases)

    def speed(self) -> list[Speed]:
        """Whether people's quick votes agree less with the others."""
        return self._keep(
            "speed", lambda seen: agreement_by_speed(on_labels(seen.votes), seen.comparisons)
        )

    def raters(self) -> list[RaterLine]:
        """Every person with an account or a vote, those with most votes first."""
        quality = self._keep("quality", self._quality)
        lines = [
            RaterLine(facts, quality.get(facts.rater))
            for facts in raters_table(self._store.database)
        ]
        return sorted(lines, key=lambda line: (-line.facts.n_votes, line.facts.rater))

    def _quality(self, seen: _Seen) -> dict[str, RaterQuality]:
        tasks = self._store.tasks()
        known = {task.id for task in tasks}
        votes = [vote for vote in seen.votes if vote.task_id in known]
        found = rater_quality(votes, tasks, fast_ms=self._settings.fast_ms)
        return {quality.rater: quality for quality in found}

    def _keep(self, name: str, work: Callable[[_Seen], T]) -> T:
        """What ``work`` made of the votes, kept while they are the same; one at a time."""
        with self._lock:
            kept = self._kept.setdefault(name, _Kept())
        with kept.lock:
            if time.monotonic() - kept.at >= SECONDS or kept.of is None:
                seen = self._read.all()
                if kept.of != seen.mark:
                    kept.value, kept.of = work(seen), seen.mark
                kept.at = time.monotonic()
            return cast(T, kept.value)


@dataclass(slots=True)
class _Kept:
    lock: Lock = field(default_factory=Lock)
    at: float = 0.0
    of: tuple[int, int] | None = None
    value: object = None


# Reading


@dataclass(frozen=True, slots=True)
class _Seen:
    """All comparisons without their texts, their marks, all votes; mark: another for others."""

    mark: tuple[int, int]
    comparisons: Sequence[Comparison]
    marks: Mapping[str, Marks]
    votes: Sequence[Vote]


class _Read:
    """The comparisons and votes of a store; the next time only those that were added."""

    def __init__(self, store: VoteStore) -> None:
        self._store = store
        self._comparisons: dict[int, tuple[Comparison, Marks]] = {}
        self._votes: dict[int, Vote] = {}
        self._lock = Lock()

    def all(self) -> _Seen:
        """Everything that is in the store now."""
        with self._lock:
            # Votes first: every vote's comparison is there by the time that these are read.
            _catch_up(self._votes, self._votes_after)
            _catch_up(self._comparisons, self._comparisons_after)
            found = [self._comparisons[seq] for seq in sorted(self._comparisons)]
            return _Seen(
                (len(found), len(self._votes)),
                [comparison for comparison, _ in found],
                {comparison.id: marks for comparison, marks in found},
                [self._votes[seq] for seq in sorted(self._votes)],
            )

    def _votes_after(self, seq: int) -> list[tuple[int, Vote]]:
        return votes_from(self._store.database, seq, _ROWS)

    def _comparisons_after(self, seq: int) -> list[tuple[int, tuple[Comparison, Marks]]]:
        rows = comparisons_from(self._store.database, seq, _ROWS)
        return [(at, (_without_texts(found), marks_of(found))) for at, found in rows]


def _catch_up(known: dict[int, T], after: Callable[[int], list[tuple[int, T]]]) -> None:
    """Read what came since into ``known``, by row number.

    From a little before its end: on PostgreSQL rows with lower numbers may be committed later.
    """
    at = max(known, default=0) - _OVERLAP
    while page := after(at):
        known.update(page)
        at = page[-1][0]


def _without_texts(comparison: Comparison) -> Comparison:
    return Comparison(
        comparison.id,
        replace(comparison.prompt, messages=(), tools=None),
        replace(comparison.a, messages=()),
        replace(comparison.b, messages=()),
        comparison.origin,
    )


def on_labels(votes: Iterable[Vote]) -> list[Vote]:
    """People's votes on label tasks: a label task has its comparison's id."""
    return [v for v in votes if v.task_id == v.comparison_id and v.rater_kind == "human"]


def on_labels_and_repeats(votes: Iterable[Vote]) -> list[Vote]:
    """People's votes on label tasks and on their hidden repeats."""
    return [
        vote
        for vote in votes
        if vote.rater_kind == "human"
        and (
            vote.task_id == vote.comparison_id
            or vote.task_id == repeat_id(vote.comparison_id, vote.rater)
        )
    ]


# Agreement


def _agreed(seen: _Seen) -> Agreed:
    counted = counted_votes(seen.comparisons, on_labels(seen.votes))
    table = vote_table(seen.comparisons, [*counted.votes, *counted.bad])
    n = 1000 if len(table) <= _FULL else _FEWER
    several = table.counts >= 2
    slices = [
        _slice(by, of_item, table, several, n) for by, of_item in _properties(seen.comparisons)
    ]
    weeks = _groups(_last_weeks(table, (*counted.votes, *counted.bad)), table, several, n)
    return Agreed(
        agreement(table),
        [found for found in slices if len(found.groups) + found.left_out > 1],
        dict(sorted(weeks.items())),
    )


def _properties(comparisons: Sequence[Comparison]) -> Iterable[tuple[str, list[str | None]]]:
    """Each property of comparisons with its value for each of them, None where it has none."""
    yield "origin", [comparison.origin for comparison in comparisons]
    yield (
        "models",
        [" | ".join(sorted((_short(c.a.model), _short(c.b.model)))) for c in comparisons],
    )
    for name in sorted({name for c in comparisons for name in c.prompt.tags}):
        yield f"tag {name}", [c.prompt.tags.get(name) for c in comparisons]


def _short(model: str) -> str:
    """A digest of weights by its first digits, a name as it is."""
    return model[:8] if _DIGEST.fullmatch(model) else model


def _slice(by: str, of_item: Sequence[str | None], table: VoteTable, several: Any, n: int) -> Slice:
    sizes = Counter(
        value for value, shared in zip(of_item, several, strict=True) if value and shared
    )
    names = [name for name, _ in sizes.most_common(MOST_GROUPS)]
    chosen = [value if value in set(names) else None for value in of_item]
    groups = _groups(chosen, table, several, n)
    return Slice(by, {name: groups[name] for name in names}, len(sizes) - len(names))


def _groups(
    of_item: Sequence[str | None], table: VoteTable, several: Any, n: int
) -> dict[str, Agreement]:
    """Group → the agreement on its comparisons, for groups where two people met on one."""
    names = sorted({v for v, shared in zip(of_item, several, strict=True) if v and shared})
    number = {name: index for index, name in enumerate(names)}
    at = np.array([number.get(value or "", -1) for value in of_item], dtype=np.int64)
    return {
        name: agreement(table.where(at[table.item] == number[name]).compact(), n=n)
        for name in names
    }


def _last_weeks(table: VoteTable, votes: Iterable[Vote]) -> list[str | None]:
    """The Monday of the week of each item's last vote."""
    last: dict[str, datetime] = {}
    for vote in votes:
        if vote.comparison_id not in last or last[vote.comparison_id] < vote.at:
            last[vote.comparison_id] = vote.at
    return [_monday(last[key]) if key in last else None for key in table.items]


def _monday(at: datetime) -> str:
    day = at.astimezone(UTC).date()
    return date.fromordinal(day.toordinal() - day.weekday()).isoformat()


# Biases


def _biases(seen: _Seen) -> list[Bias]:
    return bias_table(on_labels_and_repeats(seen.votes), seen.comparisons, seen.marks)


def plain(record: Any) -> Any:
    """A record as what JSON takes: dates in ISO 8601."""
    if isinstance(record, dict):
        return {name: plain(value) for name, value in record.items()}
    if isinstance(record, list | tuple):
        return [plain(value) for value in record]
    if isinstance(record, date):  # and datetime, which is one
        return record.isoformat()
    if is_dataclass(record) and not isinstance(record, type):
        return plain(asdict(record))
    return record
