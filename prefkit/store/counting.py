"""How much there is: the store as a whole, one origin in it, one rater's share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from prefkit.core.records import CHOICES
from prefkit.store.tables import comparisons, standing, tasks, votes


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """What a store (or one origin in it) holds.

    tasks = open + done; done means k counted votes. votes: every row ever written. standing:
    the last words of raters. choices: standing votes by choice, in the order of CHOICES.
    """

    comparisons: int
    tasks: int
    open: int
    done: int
    votes: int
    standing: int
    raters: int
    choices: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RaterProgress:
    """done: this rater's standing votes, skips among them. left: tasks still open to them."""

    done: int
    skipped: int
    left: int


def counts(connection: sa.Connection, origin: str | None) -> StoreCounts:
    """What the store holds, or what it holds of one origin."""
    scope = sa.select(comparisons.c.id)
    if origin is not None:
        scope = scope.where(comparisons.c.origin == origin)
    in_scope = tasks.c.comparison_id.in_(scope)
    stands = sa.select(standing).join(tasks).where(in_scope).subquery()
    is_open = sa.case((tasks.c.n_done < tasks.c.k, 1), else_=0)
    totals = connection.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(is_open), 0)).where(in_scope)
    ).one()
    by_choice: dict[str, int] = {
        row[0]: row[1]
        for row in connection.execute(
            sa.select(stands.c.choice, sa.func.count()).group_by(stands.c.choice)
        )
    }
    return StoreCounts(
        comparisons=_count(connection, scope.subquery()),
        tasks=totals[0],
        open=int(totals[1]),
        done=totals[0] - int(totals[1]),
        votes=_count(
            connection,
            sa.select(votes.c.id).where(votes.c.comparison_id.in_(scope)).subquery(),
        ),
        standing=sum(by_choice.values()),
        raters=_count(connection, sa.select(stands.c.rater).distinct().subquery()),
        choices={name: by_choice[name] for name in CHOICES if name in by_choice},
    )


def progress(connection: sa.Connection, rater: str) -> RaterProgress:
    """How far one rater is."""
    mine = sa.select(standing.c.task_id).where(standing.c.rater == rater)
    return RaterProgress(
        done=_count(connection, mine.subquery()),
        skipped=_count(connection, mine.where(standing.c.choice == "skip").subquery()),
        left=_count(connection, sa.select(tasks.c.id).where(*open_to(rater)).subquery()),
    )


def open_to(rater: str) -> tuple[sa.ColumnElement[bool], ...]:
    """What a task has to be for ``rater`` to be asked: worded as the index tasks_open is."""
    voted = sa.exists().where(standing.c.task_id == tasks.c.id, standing.c.rater == rater)
    return (tasks.c.lane == 1, tasks.c.k > tasks.c.n_done + tasks.c.n_leased, ~voted)


def _count(connection: sa.Connection, rows: sa.Subquery) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(rows)) or 0
