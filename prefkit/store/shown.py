"""What a rater was shown, and whether a request was done before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from prefkit.core.errors import StoreError
from prefkit.core.records import Task, Vote
from prefkit.store.leasing import Slot
from prefkit.store.quick import Quick
from prefkit.store.rows import vote_by_id
from prefkit.store.tables import events, tasks

_BY: sa.BindParameter[Any] = sa.bindparam("by")
_ID: sa.BindParameter[Any] = sa.bindparam("of_id")
_KNOWN = Quick("SELECT rater, task_id, kind FROM events WHERE id = :id")
_OF_LEASE = Quick(
    "SELECT l.shown_first, l.lane, t.id, t.comparison_id, t.kind, t.k FROM leases l "
    "JOIN tasks t ON t.id = l.task_id WHERE l.token = :token AND l.rater = :rater"
)
_OF_EVENT = (
    sa.select(events.c.payload, tasks)
    .join(tasks, tasks.c.id == events.c.task_id)
    .where(events.c.id == _ID, events.c.rater == _BY, events.c.kind.in_(("served", "again")))
)


class NotServed(StoreError):
    """A task that this rater was never shown."""


class IdTaken(StoreError):
    """An id that something else has."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A task as its rater sees it. shown_first: the slot on the left."""

    task: Task
    shown_first: Slot
    lane: int


def seen_under(connection: sa.Connection, rater: str, token: str) -> Seen:
    """What the rater was shown under ``token``, whatever became of the lease."""
    row: Any = _OF_LEASE(connection, token=token, rater=rater).first()
    if row is not None:
        return Seen(_task_of(row), row.shown_first, row.lane)
    row = connection.execute(_OF_EVENT, {"of_id": token, "by": rater}).first()
    if row is None:
        raise NotServed("this pair was never shown to this rater")
    payload = json.loads(row.payload)
    return Seen(_task_of(row), payload["side"], payload["lane"])


def _task_of(row: Any) -> Task:
    return Task(row.id, row.comparison_id, row.kind, row.k)


def is_known(
    connection: sa.Connection,
    event_id: str,
    rater: str,
    kind: str,
    task_id: str | None,
) -> bool:
    """Whether the same request was done before; IdTaken where the id is that of another."""
    known = _KNOWN(connection, id=event_id).first()
    if known is None:
        return False
    same_task = task_id is None or known.task_id == task_id
    if known.rater != rater or known.kind != kind or not same_task:
        raise IdTaken(f"the id {event_id} is that of something else")
    return True


def known_vote(
    connection: sa.Connection, event_id: str, rater: str, kind: str, task_id: str | None
) -> Vote | None:
    """The vote that was written with this id; IdTaken where the id is that of something else."""
    if not is_known(connection, event_id, rater, kind, task_id):
        return None
    return vote_by_id(connection, event_id)
