"""A task for a rater: found in order, held for a while, kept for the one who comes back.

A lease is a place among a task's k votes (``tasks.n_leased``) until it ends in a vote or its time
is over. A task is taken by raising the counter on its own row, under that row's lock, where
``k > n_done + n_leased`` holds; nothing is ever counted over ``leases``, which would serve a task
too often. All in the caller's transaction, which holds the lock of the rater's row.

Each rater has a place in each lane: every task that they had is behind it. What is open again
goes to the back (``ledger.behind_all``); what was passed by chance is met when a rater at the end
of the lanes looks from their start once more.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from prefkit.core.ids import content_id
from prefkit.core.records import Task
from prefkit.core.rng import derive_rng
from prefkit.store import chain
from prefkit.store.chain import Kind, NewEvent, RaterRow
from prefkit.store.finding import START, after, find, keep_to_the_order
from prefkit.store.quick import Quick
from prefkit.store.tables import AwareUtc, events, leases, served, standing, tasks

Slot = Literal["a", "b"]
OTHER: dict[Slot, Slot] = {"a": "b", "b": "a"}
SLICE, IN_ORDER, GOLD, PERSONAL = range(4)  # lanes
LOOK_AGAIN = timedelta(minutes=1)
REPEAT_AFTER = 20  # tasks served between a pair and its repeat
_TRIED = 20
_KEPT_WELL = timedelta(minutes=1)  # short of the full time: not worth a write
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Leased:
    """A task that a rater holds. token: names it, once. live: it has a place among the k.

    shown_first: the slot on the left.
    """

    token: str
    task: Task
    shown_first: Slot
    lane: int
    issued_at: datetime
    expires_at: datetime
    live: bool


@dataclass(frozen=True, slots=True)
class LeasePlan:
    """What a rater gets. want: tasks held at once. ttl: how long without a sign of life.

    lanes: where to look, in this order; side: the slot on the left of a task that is new to the
    rater; repeat_due: whether a hidden repeat is next. All three from the rater's row alone.
    guidelines: the version in force, for the events.
    """

    want: int
    ttl: timedelta
    lanes: Callable[[RaterRow], Sequence[int]]
    side: Callable[[RaterRow], Slot]
    repeat_due: Callable[[RaterRow], bool]
    guidelines: str | None = None


@dataclass(slots=True)
class Hand:
    """What a rater holds, oldest first. walking: the search goes on with the next request."""

    held: list[Leased]
    walking: bool = False


_TAKE = Quick(
    "UPDATE tasks SET n_leased = n_leased + 1 WHERE id = :id AND k > n_done + n_leased",
    "WITH c AS (SELECT id FROM tasks WHERE id = :id AND k > n_done + n_leased "
    "FOR NO KEY UPDATE SKIP LOCKED) "
    "UPDATE tasks t SET n_leased = t.n_leased + 1 FROM c WHERE t.id = c.id",
)
_BY: sa.BindParameter[Any] = sa.bindparam("by")
_ON: sa.BindParameter[Any] = sa.bindparam("on_task")
_TOKEN: sa.BindParameter[Any] = sa.bindparam("of_token")
_UNTIL: sa.BindParameter[Any] = sa.bindparam("until", type_=AwareUtc())
_HELD = Quick(
    sa.select(leases, tasks.c.comparison_id, tasks.c.kind, tasks.c.k)
    .join(tasks, tasks.c.id == leases.c.task_id)
    .where(leases.c.rater == _BY)
    .order_by(leases.c.issued_at, leases.c.token)
)
_EXTEND = sa.update(leases).where(leases.c.rater == _BY, leases.c.live).values(expires_at=_UNTIL)
_REVIVE = sa.update(leases).where(leases.c.token == _TOKEN).values(live=True, expires_at=_UNTIL)
_DROP = sa.delete(leases).where(leases.c.token == _TOKEN)
_SHOWN = Quick(
    sa.select(served.c.shown_first, served.c.at).where(
        served.c.task_id == _ON, served.c.rater == _BY
    )
)
_NEW_LEASE = Quick(sa.insert(leases))
_NEW_SERVED = Quick(sa.insert(served))
_NEW_TASK = sa.insert(tasks)
_LEASE = (
    "INSERT INTO leases (token, task_id, rater, shown_first, lane, issued_at, expires_at, live) "
    "VALUES (:id, :task_id, :rater, :shown_first, :lane, :issued_at, :expires_at, :live)"
)
_SERVED = (
    "INSERT INTO served (task_id, rater, shown_first, at, lane, token) "
    "VALUES (:task_id, :rater, :shown_first, :issued_at, :lane, :id)"
)
_SERVE = Quick(f"WITH l AS ({_LEASE}), s AS ({_SERVED}) {chain.INSERT_ONE}")
_SERVE_AGAIN = Quick(f"WITH l AS ({_LEASE}) {chain.INSERT_ONE}")


def fill(connection: sa.Connection, row: RaterRow, plan: LeasePlan, now: datetime) -> Hand:
    """Let the rater hold ``plan.want`` tasks if there are so many; what they hold.

    The caller saves ``row``.
    """
    keep_to_the_order(row)
    hand = Hand(_renewed(connection, row.rater, plan.ttl, now))
    while len(hand.held) < plan.want:
        # Each later than the one before, whatever the clock says: the order they are shown in.
        at = max([now, *(lease.issued_at + _MICROSECOND for lease in hand.held)])
        found = _another(connection, row, plan, at, hand)
        if found is None:
            break
        hand.held.append(found)
    return hand


def _renewed(connection: sa.Connection, rater: str, ttl: timedelta, now: datetime) -> list[Leased]:
    """What the rater holds still, extended; what lapsed is theirs again if it has a place."""
    until = now + ttl
    held: list[Leased] = []
    stale = False
    for row in _HELD(connection, by=rater):
        lease = _leased(row)
        if lease.live:
            stale |= lease.expires_at < until - _KEPT_WELL
        elif lease.expires_at <= now:
            if not take_place(connection, lease.task.id):
                connection.execute(_DROP, {"of_token": lease.token})
                continue
            connection.execute(_REVIVE, {"of_token": lease.token, "until": until})
            lease = replace(lease, live=True, expires_at=until)
        held.append(lease)
    if stale:
        connection.execute(_EXTEND, {"by": rater, "until": until})
        held = [replace(lease, expires_at=until) if lease.live else lease for lease in held]
    return held


def take_place(connection: sa.Connection, task_id: str) -> bool:
    """Take one of the task's places if one is free."""
    return _TAKE(connection, id=task_id).rowcount == 1


def _leased(row: Any) -> Leased:
    task = Task(row.task_id, row.comparison_id, row.kind, row.k)
    return Leased(
        row.token, task, row.shown_first, row.lane, row.issued_at, row.expires_at, row.live
    )


def _another(
    connection: sa.Connection, row: RaterRow, plan: LeasePlan, now: datetime, hand: Hand
) -> Leased | None:
    if plan.repeat_due(row):
        repeat = _new_repeat(connection, row)
        if repeat is not None:
            task, side = repeat
            return hold(connection, row, plan, now, task, PERSONAL, side, had=False)
    lanes = list(plan.lanes(row))
    for turn in (0, 1):
        for lane in lanes:
            found, walking = find(connection, row, lane)
            hand.walking |= walking
            if found is not None:
                task = Task(found.id, found.comparison_id, found.kind, found.k)
                side = plan.side(row)
                return hold(connection, row, plan, now, task, lane, side, had=bool(found.had))
        seen = row.looked_at
        if hand.walking or turn == 1 or (seen is not None and abs(now - seen) < LOOK_AGAIN):
            return None
        row.looked_at = now
        row.at[SLICE] = row.at[IN_ORDER] = START
    return None


def coming(connection: sa.Connection, row: RaterRow, plan: LeasePlan, n: int) -> list[str]:
    """Comparisons that the rater will probably be given, up to n of each lane, the next ones first.

    Nothing is taken and ``row`` is not to be saved. What others take meanwhile, what the rater had
    before and hidden repeats are not foretold.
    """
    keep_to_the_order(row)
    found: list[str] = []
    for lane in plan.lanes(row):
        found += after(connection, row, lane, n)
    return found


def hold(
    connection: sa.Connection,
    row: RaterRow,
    plan: LeasePlan,
    now: datetime,
    task: Task,
    lane: int,
    side: Slot,
    *,
    live: bool = True,
    had: bool = True,
) -> Leased:
    """Note that the rater holds ``task``, whose place (if live) is taken already.

    What they had before comes with the sides it had, and stands before what is new. had: whether
    they may have had it.
    """
    shown = None
    if had:
        shown = _SHOWN(connection, on_task=task.id, by=row.rater).first()
    first: Slot = side if shown is None else shown.shown_first
    since = now if shown is None else shown.at
    lease = Leased(str(uuid.uuid4()), task, first, lane, since, now + plan.ttl, live)
    payload = {"side": first, "lane": lane, "kind": task.kind}
    if plan.guidelines is not None:
        payload["guideline_version"] = plan.guidelines
    kind: Kind = "served" if shown is None else "again"
    _write(connection, row, NewEvent(lease.token, row.rater, kind, task.id, now, payload), lease)
    return lease


def _write(connection: sa.Connection, row: RaterRow, event: NewEvent, lease: Leased) -> None:
    """The lease with its event, and ``served`` where it is new: one statement on PostgreSQL, where
    each is a way there and back."""
    names = ("shown_first", "lane", "issued_at", "expires_at", "live")
    facts = {name: getattr(lease, name) for name in names}
    is_new = event.kind == "served"
    if connection.dialect.name != "sqlite":
        chain.append_one(connection, row, event, _SERVE if is_new else _SERVE_AGAIN, facts)
        return
    chain.append_one(connection, row, event)
    key = {"token": lease.token, "task_id": lease.task.id, "rater": row.rater}
    _NEW_LEASE(connection, **key, **facts)
    if is_new:
        served_at = {"shown_first": lease.shown_first, "lane": lease.lane, "at": lease.issued_at}
        _NEW_SERVED(connection, **key, **served_at)


# Hidden repeats


_MY_SERVED = sa.select(events.c.n).where(events.c.rater == _BY, events.c.kind == "served")
_LONG_AGO = _MY_SERVED.order_by(events.c.n.desc()).limit(1).offset(REPEAT_AFTER - 1)
_CANDIDATES = (
    sa.select(tasks.c.comparison_id, served.c.shown_first)
    .select_from(events)
    .join(tasks, tasks.c.id == events.c.task_id)
    .join(served, (served.c.task_id == events.c.task_id) & (served.c.rater == events.c.rater))
    .join(standing, (standing.c.task_id == tasks.c.id) & (standing.c.rater == events.c.rater))
    .where(
        events.c.rater == _BY,
        events.c.kind == "served",
        events.c.n >= sa.bindparam("since"),
        events.c.n <= sa.bindparam("until_n"),
        tasks.c.kind == "label",
        standing.c.choice != "skip",
    )
    .order_by(events.c.n)
    .limit(_TRIED)
)


def repeat_id(comparison_id: str, rater: str) -> str:
    """The id of the hidden repeat of a comparison for one rater."""
    return content_id(["repeat", comparison_id, rater])


def gold_id(comparison_id: str, better: str | None) -> str:
    """The id of the gold task of a comparison whose slot ``better`` is known to be."""
    return content_id(["gold", comparison_id, better])


def case_id(comparison_id: str, reviewer: str) -> str:
    """The id of the task in which ``reviewer`` decides a comparison (adjudicating.py).

    The search for a task (finding.py) writes it in SQL: a pair is not served to who decides it.
    """
    return f"{comparison_id}-{reviewer}"


def _new_repeat(connection: sa.Connection, row: RaterRow) -> tuple[Task, Slot] | None:
    """A task of the rater's own for a pair they voted on long ago, and its side: the other one."""
    last = connection.scalar(_LONG_AGO, {"by": row.rater})
    if last is None:
        return None
    since = derive_rng("repeat", row.rater, row.n_served).randint(1, last)
    values = {"by": row.rater, "since": since, "until_n": last}
    for comparison_id, shown_first in connection.execute(_CANDIDATES, values).all():
        task = Task(repeat_id(comparison_id, row.rater), comparison_id, "repeat", 1)
        if connection.scalar(sa.select(tasks.c.id).where(tasks.c.id == task.id)) is None:
            new = {
                "id": task.id,
                "comparison_id": comparison_id,
                "kind": "repeat",
                "k": 1,
                "n_done": 0,
                "n_leased": 1,
                "shuffle": 0,
                "lane": PERSONAL,
                "priority": 0,
                "only_rater": row.rater,
            }
            connection.execute(_NEW_TASK, new)
            return task, OTHER[shown_first]
    return None


_RESET = sa.text(
    "UPDATE meta SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) WHERE key = 'order_epoch'"
)


def reset_places(connection: sa.Connection) -> None:
    """Let every rater begin at the start of the lanes with their next task."""
    connection.execute(_RESET)
