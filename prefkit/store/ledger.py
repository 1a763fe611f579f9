"""What events mean: votes, what stands, what was shown. The only writer of votes.

The rules, for people and machines alike:
- a vote's id counts once, so a retried request changes nothing;
- a second vote of a rater on a task replaces the first (``replaces`` is filled in);
- ``withdrawn`` takes the rater's standing vote away and nothing else;
- a person's vote on a task that already has its k is kept and marked ``late``.
Skips stand (the rater is not asked again) but are not counted towards k.

What was decided when a vote came (``late``, ``replaces``) is in its event: a replay repeats what
followed from it and judges nothing anew. The words of a vote (rationale, edit) are kept in
``texts``; its event holds a salted digest of them, and the salt goes when the words go.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa

from prefkit.core.errors import StoreError
from prefkit.core.records import Comparison, Vote
from prefkit.formats.schema import from_row
from prefkit.store import chain
from prefkit.store.chain import Event, NewEvent, RaterRow
from prefkit.store.database import chunks
from prefkit.store.tables import events, standing, storable, tasks, texts, votes

COUNTED = ("a", "b", "tie", "both_bad", "invalid")
WORDS = ("rationale", "edit")  # the fields of a vote that are kept in ``texts``
_FACTS = ("comparison_id", "rater_kind", "choice", "late")
_OPTIONAL = (
    "strength", "p_a", "confidence", "shown_first", "active_ms", "guideline_version", "replaces",
)  # fmt: skip
UNREADABLE = (ValueError, KeyError, TypeError, OverflowError)  # what a damaged payload raises
Key = tuple[str, str]  # task id, rater

# Statements are made once: making one anew costs more than SQLite takes to do it.
_IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_ON_TASK: sa.BindParameter[Any] = sa.bindparam("on_task")
_BY: sa.BindParameter[Any] = sa.bindparam("by")
_KNOWN = sa.select(events.c.id).where(events.c.id.in_(_IDS))
# Locked in the order of their ids, so that two writers cannot wait for each other.
_LOCK_TASKS = (
    sa.select(tasks)
    .where(tasks.c.id.in_(_IDS))
    .order_by(tasks.c.id)
    .with_for_update(key_share=True)
)
_STANDS = sa.select(standing).where(standing.c.task_id.in_(_IDS))
_UNSTAND = sa.delete(standing).where(standing.c.task_id == _ON_TASK, standing.c.rater == _BY)
_STAND = sa.insert(standing)
_COUNT = sa.update(tasks).where(tasks.c.id == _ON_TASK).values(n_done=sa.bindparam("now_done"))
_VOTE = sa.insert(votes)
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
class _Book:
    """The rows of the tasks at hand, changed in memory and written once.

    free: how many votes each task wants that nobody holds a lease for, done ones among them.
    """

    views: Views = field(default_factory=Views)
    free: dict[str, int] = field(default_factory=dict[str, int])
    comparison: dict[str, str] = field(default_factory=dict[str, str])


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
    return enter(connection, rows, fresh) if fresh else []


def enter(
    connection: sa.Connection,
    rows: Mapping[str, RaterRow],
    fresh: Sequence[Vote],
    *,
    held: Collection[str] = (),
) -> list[Vote]:
    """Write votes whose ids are new, as ``append`` does.

    rows: their raters' rows, locked by this transaction. held: tasks of which the rater holds a
    live lease, counted in ``n_leased`` still: their vote has a place and is not late.
    """
    book = _read_book(connection, sorted({vote.task_id for vote in fresh}))
    written = [_judged(book, vote, vote.task_id in held) for vote in fresh]
    sealed = [_sealed(vote) for vote in written]
    linked = chain.append(connection, rows, [event for event, _ in sealed])
    connection.execute(
        _VOTE, [vote_row(vote, e.seq) for vote, e in zip(written, linked, strict=True)]
    )
    words = [row for _, rows_of_vote in sealed for row in rows_of_vote]
    if words:
        connection.execute(_TEXT, words)
    _write_book(connection, book, {(vote.task_id, vote.rater) for vote in written})
    chain.save(connection, rows.values())
    return written


def _known_ids(connection: sa.Connection, ids: list[str]) -> set[str]:
    found: set[str] = set()
    for chunk in chunks(ids):
        found.update(connection.scalars(_KNOWN, {"ids": chunk}))
    return found


def _read_book(connection: sa.Connection, task_ids: list[str]) -> _Book:
    book = _Book()
    for chunk in chunks(task_ids):
        for row in connection.execute(_LOCK_TASKS, {"ids": chunk}):
            book.free[row.id] = row.k - row.n_leased
            book.views.n_done[row.id] = row.n_done
            book.comparison[row.id] = row.comparison_id
        for row in connection.execute(_STANDS, {"ids": chunk}):
            book.views.stands[row.task_id, row.rater] = Stand(row.vote_id, row.choice, row.counted)
    return book


def _judged(book: _Book, vote: Vote, held: bool) -> Vote:
    """The vote as it is written (``replaces``, ``late``, its words), entered in the book."""
    if book.comparison.get(vote.task_id) != vote.comparison_id:
        raise StoreError(
            f"vote {vote.id}: task {vote.task_id} of comparison {vote.comparison_id} is not in "
            "the store",
            hint="add the comparison before its votes",
        )
    before = book.views.stands.get((vote.task_id, vote.rater))
    free = book.free[vote.task_id] - book.views.n_done[vote.task_id] + held
    if before is not None:
        vote = replace(vote, replaces=before.vote_id)
        free += before.counted
    words = {name: storable(text) for name in WORDS if (text := getattr(vote, name)) is not None}
    if words:
        vote = replace(vote, **words)
    if vote.rater_kind == "human" and vote.choice in COUNTED and free < 1:
        vote = replace(vote, late=True)
    settle(book.views, vote)
    return vote


def _sealed(vote: Vote) -> tuple[NewEvent, list[dict[str, Any]]]:
    """The event of a vote, and its words as rows of ``texts``."""
    payload: dict[str, Any] = {name: getattr(vote, name) for name in _FACTS}
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


def text_row(event_id: str, name: str, rater: str, text: str) -> dict[str, Any]:
    """The row of ``texts`` for what ``rater`` wrote in the field ``name`` of an event."""
    salt = os.urandom(16).hex()
    return {
        "vote_id": event_id,
        "field": name,
        "rater": rater,
        "salt": salt,
        "text": storable(text),
    }


def text_digest(salt: str, text: str) -> str:
    """What an event says of a text: BLAKE2b-256 of the salt's bytes and the UTF-8 text."""
    return chain.digest(bytes.fromhex(salt) + text.encode("utf-8"))


def _write_book(connection: sa.Connection, book: _Book, changed: set[Key]) -> None:
    connection.execute(
        _UNSTAND,
        [{"on_task": task_id, "by": rater} for task_id, rater in sorted(changed)],
    )
    rows = [
        stand_row(key, book.views.stands[key])
        for key in sorted(changed)
        if key in book.views.stands
    ]
    if rows:
        connection.execute(_STAND, rows)
    connection.execute(
        _COUNT,
        [
            {"on_task": task_id, "now_done": book.views.n_done[task_id]}
            for task_id in sorted({task_id for task_id, _ in changed})
        ],
    )


def stand_row(key: Key, last: Stand) -> dict[str, Any]:
    """The row of ``standing`` for the last word of a rater on a task."""
    return {
        "task_id": key[0],
        "rater": key[1],
        "vote_id": last.vote_id,
        "choice": last.choice,
        "counted": last.counted,
    }


_PLAIN = [name for name in votes.c.keys() if name not in ("seq", "aspects")]  # noqa: SIM118


def vote_row(vote: Vote, seq: int) -> dict[str, Any]:
    """The row of ``votes`` for a vote and the number of its event."""
    row = {name: getattr(vote, name) for name in _PLAIN}
    return {**row, "seq": seq, "aspects": chain.compact(dict(vote.aspects))}


def vote_of(row: Mapping[Any, Any]) -> Vote:
    """The record of a row of ``votes``, with its words where the row has them."""
    values = {name: value for name, value in row.items() if name != "seq"}
    values["aspects"] = json.loads(values["aspects"])
    return Vote(**values)


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


def comparison_of(row: Mapping[Any, Any]) -> Comparison:
    """The record of a row of ``comparisons``; StoreError where its texts are damaged."""
    try:
        documents = {name: json.loads(row[name]) for name in ("prompt", "a", "b")}
        return from_row({"id": row["id"], "origin": row["origin"], **documents}, Comparison)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"comparison {row['id']}: its texts are damaged: {error}",
            hint="put a backup in its place (prefkit store backup makes them)",
        ) from None


def votes_with_words() -> Any:
    """All columns of ``votes`` and the words of each vote, None where there are none."""
    columns: list[Any] = list(votes.c)
    joined: Any = votes
    for name in WORDS:
        of_field = texts.alias(name)
        on_vote = (of_field.c.vote_id == votes.c.id) & (of_field.c.field == name)
        joined = joined.outerjoin(of_field, on_vote)
        columns.append(of_field.c.text.label(name))
    return sa.select(*columns).select_from(joined)


def vote_by_id(connection: sa.Connection, vote_id: str) -> Vote | None:
    """The vote of this id with its words, or None."""
    query = votes_with_words().where(votes.c.id == vote_id)
    row = connection.execute(query).mappings().first()
    return vote_of(row) if row is not None else None


def newest(connection: sa.Connection, rater: str) -> Vote | None:
    """The newest vote of ``rater`` that stands, without its words; None if none does."""
    query = (
        sa.select(votes)
        .join(standing, standing.c.vote_id == votes.c.id)
        .where(standing.c.rater == rater)
        .order_by(votes.c.seq.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().first()
    return vote_of(row) if row is not None else None
