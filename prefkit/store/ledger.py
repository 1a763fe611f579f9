"""What events mean: votes, what stands, what was shown. The only writer of votes.

The rules, for people and machines alike:
- a vote's id counts once, so a retried request changes nothing;
- a second vote of a rater on a task replaces the first (``replaces`` is filled in);
- ``withdrawn`` takes the rater's standing vote away and nothing else;
- a vote on a task whose k places are taken (voted on or held) is kept and marked ``late``.
Skips stand (the rater is not asked again) but are not counted towards k.

What was decided when a vote came (``late``, ``replaces``) is in its event: a replay repeats what
followed from it and judges nothing anew. The words of a vote (rationale, edit) are kept in
``texts``; its event holds a salted digest of them, and the salt goes when the words go.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa

from prefkit.core.errors import StoreError
from prefkit.core.records import Vote
from prefkit.store import chain
from prefkit.store.chain import Event, NewEvent, RaterRow
from prefkit.store.database import chunks
from prefkit.store.quick import Quick
from prefkit.store.rows import WORDS, text_digest, text_row, vote_row
from prefkit.store.tables import events, standing, storable, tasks, texts, votes

COUNTED = ("a", "b", "tie", "both_bad", "invalid")
_FACTS = ("comparison_id", "rater_kind", "choice", "late")
_OPTIONAL = (
    "strength", "p_a", "confidence", "shown_first", "active_ms", "guideline_version", "replaces",
)  # fmt: skip
UNREADABLE = (ValueError, KeyError, TypeError, OverflowError)  # what a damaged payload raises
Key = tuple[str, str]  # task id, rater
# From the choices that count on a task, and its k: how many votes it wants now.
Wanted = Callable[[Sequence[str], int], int]
# A task that is open again goes behind all others, so that every rater's place is before it.
BACK = 1 << 40
ADAPTIVE = ("label", 1)  # kind and lane of the tasks whose k follows from their votes

# Statements are made once: making one anew costs more than SQLite takes to do it.
_IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_KNOWN = sa.select(events.c.id).where(events.c.id.in_(_IDS))
# Locked in the order of their ids, so that two writers cannot wait for each other.
_LOCK_TASKS = (
    sa.select(tasks)
    .where(tasks.c.id.in_(_IDS))
    .order_by(tasks.c.id)
    .with_for_update(key_share=True)
)
_STANDS = sa.select(standing).where(standing.c.task_id.in_(_IDS))
_LOCK_TASK = Quick(
    "SELECT * FROM tasks WHERE id = :id", "SELECT * FROM tasks WHERE id = :id FOR NO KEY UPDATE"
)
_STANDS_ON = Quick("SELECT rater, vote_id, choice, counted FROM standing WHERE task_id = :id")
_UNSTAND = Quick("DELETE FROM standing WHERE task_id = :task_id AND rater = :rater")
_STAND = Quick(
    "INSERT INTO standing (task_id, rater, vote_id, choice, counted) "
    "VALUES (:task_id, :rater, :vote_id, :choice, :counted)"
)
_COUNT = Quick(
    "UPDATE tasks SET n_done = :n_done, n_leased = :n_leased, k = :k, priority = :priority "
    "WHERE id = :id"
)
_VOTE = Quick(sa.insert(votes))
_TEXT = sa.insert(texts)


@dataclass(slots=True)
class Stand:
    """A rater's last word on a task."""

    vote_id: str
    choice: str
    counted: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """How a task was served to a rater, first."""

    shown_first: str
    at: datetime
    lane: int
    token: str


@dataclass(frozen=True, slots=True)
class Flagged:
    """A rater's flag on a task; note_id: the event whose text says why."""

    note_id: str | None
    at: datetime


@dataclass(slots=True)
class Views:
    """All that follows from events. votes: row number → vote, without its words."""

    votes: dict[int, Vote] = field(default_factory=dict[int, Vote])
    stands: dict[Key, Stand] = field(default_factory=dict[Key, Stand])
    served: dict[Key, Shown] = field(default_factory=dict[Key, Shown])
    flags: dict[Key, Flagged] = field(default_factory=dict[Key, Flagged])
    n_done: Counter[str] = field(default_factory=Counter[str])
    raters: dict[str, RaterRow] = field(default_factory=dict[str, RaterRow])


@dataclass(slots=True)
class _TaskRow:
    """What a vote can change of a task, but for n_done."""

    comparison_id: str
    adaptive: bool
    was_full: bool
    k: int
    n_leased: int
    priority: int


@dataclass(slots=True)
class _Book:
    """The rows of the tasks at hand, changed in memory and written once."""

    views: Views = field(default_factory=Views)
    tasks: dict[str, _TaskRow] = field(default_factory=dict[str, _TaskRow])
    stood: set[Key] = field(default_factory=set[Key])


def fold(views: Views, event: Event) -> None:
    """Let ``event`` come after all that ``views`` follows from.

    Raises one of UNREADABLE for a payload that is not what its kind has.
    """
    payload = payload_of(event)
    views.raters.setdefault(event.rater, RaterRow(event.rater)).take(event)
    key = (event.task_id or "", event.rater)
    if event.kind in ("vote", "undo"):
        vote = _vote_of_event(event, payload)
        views.votes[event.seq] = vote
        settle(views, vote)
    elif event.kind == "served":
        shown = Shown(payload["side"], chain.moment(event.at), payload["lane"], event.id)
        views.served.setdefault(key, shown)
    elif event.kind == "flag":
        if payload["on"]:
            note = event.id if "note" in payload else None
            views.flags[key] = Flagged(note, chain.moment(event.at))
        else:
            views.flags.pop(key, None)


def payload_of(event: Event) -> dict[str, Any]:
    """What the event says; raises ValueError or TypeError where it is no JSON object."""
    payload = json.loads(event.payload)
    if not isinstance(payload, dict):
        raise TypeError("not a JSON object")
    return cast(dict[str, Any], payload)


def settle(views: Views, vote: Vote) -> None:
    """Let ``vote`` be its rater's last word on its task."""
    key = (vote.task_id, vote.rater)
    before = views.stands.pop(key, None)
    if before is not None:
        views.n_done[vote.task_id] -= before.counted
    if vote.choice != "withdrawn":
        counted = vote.choice in COUNTED and not vote.late
        views.stands[key] = Stand(vote.id, vote.choice, counted)
        views.n_done[vote.task_id] += counted


def append(connection: sa.Connection, new: Sequence[Vote]) -> list[Vote]:
    """Write the votes that are not there yet, in order; those written, as they were written.

    Runs inside the caller's transaction. Raises StoreError for a vote on a task that the store
    does not hold.
    """
    rows = chain.lock_raters(connection, (vote.rater for vote in new))
    known = _known_ids(connection, [vote.id for vote in new])
    fresh: list[Vote] = []
    for vote in new:
        if vote.id not in known:
            known.add(vote.id)
            fresh.append(vote)
    written = enter(connection, rows, fresh) if fresh else []
    chain.save(connection, rows.values())
    return written


def enter(
    connection: sa.Connection,
    rows: Mapping[str, RaterRow],
    fresh: Sequence[Vote],
    *,
    leases: Mapping[str, int] | None = None,
    wanted: Wanted | None = None,
    facts: Mapping[str, Any] | None = None,
) -> list[Vote]:
    """Write votes whose ids are new, as ``append`` does; the caller saves ``rows``.

    rows: their raters' rows, locked by this transaction. leases: task → how many live leases more
    it has after this, the caller having ended or made them: −1 where the vote ends one (so it has
    a place and is not late). wanted: where k follows from the votes. facts: more for the events.
    """
    changes = leases or {}
    book = _read_book(connection, sorted({vote.task_id for vote in fresh}))
    for task_id, change in changes.items():
        book.tasks[task_id].n_leased += change
    written = [_judged(book, vote) for vote in fresh]
    sealed: list[tuple[NewEvent, list[dict[str, Any]]]] = []
    for vote in written:
        raised = _raise_k(book, vote, wanted) if wanted is not None else {}
        sealed.append(_sealed(vote, {**(facts or {}), **raised}))
    linked = chain.append(connection, rows, [event for event, _ in sealed])
    _VOTE.many(connection, [vote_row(vote, e.seq) for vote, e in zip(written, linked, strict=True)])
    words = [row for _, rows_of_vote in sealed for row in rows_of_vote]
    if words:
        connection.execute(_TEXT, words)
    _write_book(connection, book, {(vote.task_id, vote.rater) for vote in written})
    return written


def _known_ids(connection: sa.Connection, ids: list[str]) -> set[str]:
    found: set[str] = set()
    for chunk in chunks(ids):
        found.update(connection.scalars(_KNOWN, {"ids": chunk}))
    return found


def _read_book(connection: sa.Connection, task_ids: list[str]) -> _Book:
    book = _Book()
    if len(task_ids) == 1:  # as every vote has it: an IN is compiled anew at each run
        _note(book, _LOCK_TASK(connection, id=task_ids[0]))
        _note_stands(book, ((task_ids[0], *row) for row in _STANDS_ON(connection, id=task_ids[0])))
        return book
    for chunk in chunks(task_ids):
        _note(book, connection.execute(_LOCK_TASKS, {"ids": chunk}))
        stands = connection.execute(_STANDS, {"ids": chunk})
        _note_stands(book, ((r.task_id, r.rater, r.vote_id, r.choice, r.counted) for r in stands))
    return book


def _note(book: _Book, rows: Iterable[Any]) -> None:
    for row in rows:
        book.views.n_done[row.id] = row.n_done
        book.tasks[row.id] = _TaskRow(
            comparison_id=row.comparison_id,
            adaptive=(row.kind, row.lane) == ADAPTIVE,
            was_full=row.n_done + row.n_leased >= row.k,
            k=row.k,
            n_leased=row.n_leased,
            priority=row.priority,
        )


def _note_stands(book: _Book, rows: Iterable[tuple[Any, ...]]) -> None:
    for task_id, rater, vote_id, choice, counted in rows:
        book.stood.add((task_id, rater))
        book.views.stands[task_id, rater] = Stand(vote_id, choice, bool(counted))


def _judged(book: _Book, vote: Vote) -> Vote:
    """The vote as it is written (``replaces``, ``late``, its words), entered in the book.

    A counted vote that is revised keeps its place.
    """
    task = book.tasks.get(vote.task_id)
    if task is None or task.comparison_id != vote.comparison_id:
        raise StoreError(
            f"vote {vote.id}: task {vote.task_id} of comparison {vote.comparison_id} is not in "
            "the store",
            hint="add the comparison before its votes",
        )
    before = book.views.stands.get((vote.task_id, vote.rater))
    has_place = book.views.n_done[vote.task_id] + task.n_leased < task.k
    if before is not None:
        vote = replace(vote, replaces=before.vote_id)
        has_place |= before.counted
    words = {name: storable(text) for name in WORDS if (text := getattr(vote, name)) is not None}
    if words:
        vote = replace(vote, **words)
    if vote.choice in COUNTED and not has_place:
        vote = replace(vote, late=True)
    settle(book.views, vote)
    return vote


def withdrawal(last: Vote, undo_id: str, now: datetime, guidelines: str | None) -> Vote:
    """The vote that takes ``last`` back. guidelines: the version in force."""
    return Vote(
        id=undo_id,
        task_id=last.task_id,
        comparison_id=last.comparison_id,
        rater=last.rater,
        rater_kind=last.rater_kind,
        choice="withdrawn",
        at=now,
        shown_first=last.shown_first,
        guideline_version=guidelines,
        replaces=last.id,
    )


def _raise_k(book: _Book, vote: Vote, wanted: Wanted) -> dict[str, int]:
    """Let the task of ``vote`` want more votes if they leave it open; what its event says then."""
    task = book.tasks[vote.task_id]
    if not task.adaptive:
        return {}
    choices = [
        last.choice
        for (task_id, _), last in book.views.stands.items()
        if task_id == vote.task_id and last.counted
    ]
    k = wanted(choices, task.k)
    if k <= task.k:
        return {}
    task.k = k
    return {"k_after": k}


def _sealed(vote: Vote, more: Mapping[str, Any]) -> tuple[NewEvent, list[dict[str, Any]]]:
    """The event of a vote, with ``more`` facts in it, and its words as rows of ``texts``."""
    payload: dict[str, Any] = {**more, **{name: getattr(vote, name) for name in _FACTS}}
    for name in _OPTIONAL:
        if getattr(vote, name) is not None:
            payload[name] = getattr(vote, name)
    if vote.aspects:
        payload["aspects"] = dict(vote.aspects)
    rows: list[dict[str, Any]] = []
    for name in WORDS:
        text = getattr(vote, name)
        if text is not None:
            row = text_row(vote.id, name, vote.rater, text)
            payload[name] = text_digest(row["salt"], row["text"])
            rows.append(row)
    kind = "undo" if vote.choice == "withdrawn" else "vote"
    return NewEvent(vote.id, vote.rater, kind, vote.task_id, vote.at, payload), rows


def _write_book(connection: sa.Connection, book: _Book, changed: set[Key]) -> None:
    for key in sorted(changed):
        if key in book.stood:
            _UNSTAND(connection, task_id=key[0], rater=key[1])
        if key in book.views.stands:
            _STAND(connection, **stand_row(key, book.views.stands[key]))
    for task_id in sorted({key[0] for key in changed}):
        task, n_done = book.tasks[task_id], book.views.n_done[task_id]
        reopened = task.was_full and n_done + task.n_leased < task.k
        _COUNT(
            connection,
            id=task_id,
            n_done=n_done,
            n_leased=task.n_leased,
            k=task.k,
            priority=behind_all() if reopened else task.priority,
        )


def behind_all() -> int:
    """A priority after that of every task so far."""
    return BACK + time.time_ns() // 1000


def stand_row(key: Key, last: Stand) -> dict[str, Any]:
    """The row of ``standing`` for the last word of a rater on a task."""
    return {
        "task_id": key[0],
        "rater": key[1],
        "vote_id": last.vote_id,
        "choice": last.choice,
        "counted": last.counted,
    }


def _vote_of_event(event: Event, payload: Mapping[str, Any]) -> Vote:
    """The vote that an event records, without its words."""
    facts = {name: payload[name] for name in _FACTS}
    facts |= {name: payload[name] for name in _OPTIONAL if name in payload}
    return Vote(
        id=event.id,
        task_id=event.task_id or "",
        rater=event.rater,
        at=chain.moment(event.at),
        aspects=payload.get("aspects", {}),
        **facts,
    )
