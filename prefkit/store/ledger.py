"""Votes into the store: what a new vote does to what stands. The only writer of votes.

The rules, for people and machines alike:
- a vote's id counts once, so a retried request changes nothing;
- a second vote of a rater on a task replaces the first (``replaces`` is filled in);
- ``withdrawn`` takes the rater's standing vote away and nothing else;
- a person's vote on a task that already has its k is kept and marked ``late``.
Skips stand (the rater is not asked again) but are not counted towards k.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import sqlalchemy as sa

from prefkit.core.errors import StoreError
from prefkit.core.records import Comparison, Vote
from prefkit.formats.schema import from_row, to_row
from prefkit.store.tables import standing, tasks, votes

COUNTED = ("a", "b", "tie", "both_bad", "invalid")
_CHUNK = 500  # names in one IN (...)
T = TypeVar("T")
Key = tuple[str, str]  # task id, rater


@dataclass(slots=True)
class Stand:
    """A rater's last word on a task."""

    vote_id: str
    choice: str
    counted: bool


@dataclass(slots=True)
class _Book:
    """The rows of the tasks at hand, changed in memory and written once."""

    k: dict[str, int] = field(default_factory=dict[str, int])
    n_done: dict[str, int] = field(default_factory=dict[str, int])
    comparison: dict[str, str] = field(default_factory=dict[str, str])
    stands: dict[Key, Stand] = field(default_factory=dict[Key, Stand])
    changed: set[Key] = field(default_factory=set[Key])


def append(connection: sa.Connection, new: Sequence[Vote]) -> list[Vote]:
    """Write the votes that are not there yet, in order; those written, as they were written.

    Runs inside the caller's transaction. Raises StoreError for a vote on a task that the store
    does not hold.
    """
    known = _known_ids(connection, [vote.id for vote in new])
    fresh: list[Vote] = []
    for vote in new:
        if vote.id not in known:
            known.add(vote.id)
            fresh.append(vote)
    if not fresh:
        return []
    book = _read_book(connection, sorted({vote.task_id for vote in fresh}))
    written = [_enter(book, vote) for vote in fresh]
    connection.execute(sa.insert(votes), [_vote_row(vote) for vote in written])
    _write_book(connection, book)
    return written


def _known_ids(connection: sa.Connection, ids: list[str]) -> set[str]:
    found: set[str] = set()
    for chunk in chunks(ids):
        found.update(connection.scalars(sa.select(votes.c.id).where(votes.c.id.in_(chunk))))
    return found


def _read_book(connection: sa.Connection, task_ids: list[str]) -> _Book:
    book = _Book()
    for chunk in chunks(task_ids):
        # Locked in the order of their ids, so that two writers cannot wait for each other.
        rows = connection.execute(
            sa.select(tasks).where(tasks.c.id.in_(chunk)).order_by(tasks.c.id).with_for_update()
        )
        for row in rows:
            book.k[row.id], book.n_done[row.id] = row.k, row.n_done
            book.comparison[row.id] = row.comparison_id
        for row in connection.execute(sa.select(standing).where(standing.c.task_id.in_(chunk))):
            book.stands[row.task_id, row.rater] = Stand(row.vote_id, row.choice, row.counted)
    return book


def _enter(book: _Book, vote: Vote) -> Vote:
    if book.comparison.get(vote.task_id) != vote.comparison_id:
        raise StoreError(
            f"vote {vote.id}: task {vote.task_id} of comparison {vote.comparison_id} is not in "
            "the store",
            hint="add the comparison before its votes",
        )
    key = (vote.task_id, vote.rater)
    before = book.stands.get(key)
    if before is not None:
        vote = replace(vote, replaces=before.vote_id)
        book.n_done[vote.task_id] -= before.counted
    full = book.n_done[vote.task_id] >= book.k[vote.task_id]
    if vote.rater_kind == "human" and vote.choice in COUNTED and full:
        vote = replace(vote, late=True)
    stand(book.stands, vote)
    after = book.stands.get(key)
    book.n_done[vote.task_id] += after.counted if after else 0
    book.changed.add(key)
    return vote


def stand(stands: dict[Key, Stand], vote: Vote) -> None:
    """Let ``vote`` be its rater's last word on its task."""
    key = (vote.task_id, vote.rater)
    if vote.choice == "withdrawn":
        stands.pop(key, None)
    else:
        stands[key] = Stand(vote.id, vote.choice, vote.choice in COUNTED and not vote.late)


def _write_book(connection: sa.Connection, book: _Book) -> None:
    connection.execute(
        sa.delete(standing).where(
            standing.c.task_id == sa.bindparam("on_task"), standing.c.rater == sa.bindparam("by")
        ),
        [{"on_task": task_id, "by": rater} for task_id, rater in sorted(book.changed)],
    )
    rows = [
        {"task_id": key[0], "rater": key[1], **_stand_row(book.stands[key])}
        for key in sorted(book.changed)
        if key in book.stands
    ]
    if rows:
        connection.execute(sa.insert(standing), rows)
    connection.execute(
        sa.update(tasks)
        .where(tasks.c.id == sa.bindparam("on_task"))
        .values(n_done=sa.bindparam("now_done")),
        [
            {"on_task": task_id, "now_done": book.n_done[task_id]}
            for task_id in sorted({task_id for task_id, _ in book.changed})
        ],
    )


def _stand_row(last: Stand) -> dict[str, Any]:
    return {"vote_id": last.vote_id, "choice": last.choice, "counted": last.counted}


def _vote_row(vote: Vote) -> dict[str, Any]:
    return to_row(vote)


def vote_of(row: Mapping[Any, Any]) -> Vote:
    """The record of a row of ``votes``."""
    values = {name: value for name, value in row.items() if name != "seq"}
    values["aspects"] = json.loads(values["aspects"])
    return Vote(**values)


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


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """``items`` in lists short enough for one statement."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == _CHUNK:
            yield batch
            batch = []
    if batch:
        yield batch
