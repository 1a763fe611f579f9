"""A disputed pair for a reviewer: a task of their own, outside k, that nobody else is served.

The reviewer decides it as any pair is voted on, by the token that they were served it under
(``Leases.cast``), and sees nothing of the other votes before. It takes no place among the k and
no lease: a disputed pair waits for its reviewer, who is never served it as a rater from then on.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prefkit.core.errors import StoreError
from prefkit.store import chain
from prefkit.store.chain import NewEvent
from prefkit.store.database import insert_new
from prefkit.store.leasing import PERSONAL, Slot, case_id
from prefkit.store.tables import flags, leases, served, standing, tasks


class NotForYou(StoreError):
    """A pair that this reviewer cannot decide."""


@dataclass(frozen=True, slots=True)
class Case:
    """A disputed pair as its reviewer sees it. decided: their vote's id, once it is stored."""

    token: str
    task_id: str
    shown_first: Slot
    decided: str | None


def open_case(
    connection: sa.Connection,
    reviewer: str,
    comparison_id: str,
    side: Slot,
    now: datetime,
    guidelines: str | None = None,
) -> Case:
    """The pair for ``reviewer``, the same whenever they ask. side: on the left, if it is new;
    guidelines: the version in force, for its event.

    Raises NotForYou: there is no such pair, raters are still at it, or the reviewer is one of
    them.
    """
    rows = chain.lock_raters(connection, [reviewer])
    task_id = case_id(comparison_id, reviewer)
    known = case_of(connection, reviewer, comparison_id)
    if known is not None:
        return known
    _check(connection, reviewer, comparison_id)
    token = str(uuid.uuid4())
    new: dict[str, Any] = {
        "id": task_id,
        "comparison_id": comparison_id,
        "kind": "adjudicate",
        "k": 1,
        "n_done": 0,
        "n_leased": 0,
        "shuffle": 0,
        "lane": PERSONAL,
        "priority": 0,
        "only_rater": reviewer,
    }
    connection.execute(insert_new(connection, tasks), new)
    payload: dict[str, Any] = {"side": side, "lane": PERSONAL, "kind": "adjudicate"}
    if guidelines is not None:
        payload["guideline_version"] = guidelines
    event = NewEvent(token, reviewer, "served", task_id, now, payload)
    chain.append(connection, rows, [event])
    row = {
        "task_id": task_id,
        "rater": reviewer,
        "shown_first": side,
        "at": now,
        "lane": PERSONAL,
        "token": token,
    }
    connection.execute(sa.insert(served), row)
    chain.save(connection, rows.values())
    return Case(token, task_id, side, None)


def case_of(connection: sa.Connection, reviewer: str, comparison_id: str) -> Case | None:
    """The pair as ``reviewer`` was served it; None where they never asked for it."""
    task_id = case_id(comparison_id, reviewer)
    row = connection.execute(
        sa.select(served.c.token, served.c.shown_first).where(
            served.c.task_id == task_id, served.c.rater == reviewer
        )
    ).first()
    if row is None:
        return None
    decided = connection.scalar(
        sa.select(standing.c.vote_id).where(
            standing.c.task_id == task_id, standing.c.rater == reviewer
        )
    )
    return Case(row.token, task_id, row.shown_first, decided)


def _check(connection: sa.Connection, reviewer: str, comparison_id: str) -> None:
    task = connection.execute(
        sa.select(tasks.c.k, tasks.c.n_done).where(
            tasks.c.id == comparison_id, tasks.c.kind == "label"
        )
    ).first()
    if task is None:
        raise NotForYou(f"comparison {comparison_id} is not in the store")
    of_it = tasks.c.comparison_id == comparison_id
    own = sa.select(standing.c.vote_id).join(tasks).where(of_it, standing.c.rater == reviewer)
    if connection.scalar(own.limit(1)) is not None:
        raise NotForYou(
            "you voted on this pair as a rater", hint="another reviewer has to decide it"
        )
    held = sa.select(leases.c.token).where(
        leases.c.task_id == comparison_id, leases.c.rater == reviewer
    )
    if connection.scalar(held) is not None:
        raise NotForYou("you have this pair to label", hint="another reviewer has to decide it")
    flagged = sa.select(flags.c.task_id).where(flags.c.task_id == comparison_id).limit(1)
    if task.n_done < task.k and connection.scalar(flagged) is None:
        raise NotForYou(
            f"this pair has {task.n_done} of {task.k} votes", hint="wait until it has all of them"
        )
