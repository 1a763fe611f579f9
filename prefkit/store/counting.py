"""How much there is: the store as a whole, one origin in it, one rater's share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from prefkit.core.records import CHOICES, Vote
from prefkit.store.rows import THAT_STAND, vote_by_id, vote_of
from prefkit.store.tables import comparisons, leases, served, standing, tasks, votes

HIDDEN = ("gold", "repeat")  # kinds of tasks that say how a rater does, and nothing of the work
# A label task carries the id of its comparison; a comparison without one is a gold item only.
IS_WORK = sa.exists().where(tasks.c.id == comparisons.c.id)
HIDDEN_TASKS = sa.select(tasks.c.id).where(tasks.c.kind.in_(HIDDEN))
_IS_LABEL = tasks.c.kind == "label"


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """What a store (or one origin in it) holds; gold items and hidden repeats are left out.

    tasks = open + done: label tasks; done means k counted votes. votes: every row ever written, on
    cases of reviewers too. standing: the last words of raters. choices: standing votes by choice,
    in the order of CHOICES.
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
    """done: this rater's standing votes on label tasks, skips among them. left: tasks they hold or
    may get."""

    done: int
    skipped: int
    left: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A vote in its rater's history. seq: its place in the store, for the next page."""

    seq: int
    vote: Vote


def counts(connection: sa.Connection, origin: str | None) -> StoreCounts:
    """What the store holds, or what it holds of one origin."""
    scope = sa.select(comparisons.c.id).where(IS_WORK)
    if origin is not None:
        scope = scope.where(comparisons.c.origin == origin)
    in_scope = tasks.c.comparison_id.in_(scope) & tasks.c.kind.not_in(HIDDEN)
    stands = sa.select(standing).join(tasks).where(in_scope).subquery()
    is_open = sa.case((tasks.c.n_done < tasks.c.k, 1), else_=0)
    n_tasks = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(is_open), 0))
    totals = connection.execute(n_tasks.where(in_scope, _IS_LABEL)).one()
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
            sa.select(votes.c.id).join(tasks).where(in_scope).subquery(),
        ),
        standing=sum(by_choice.values()),
        raters=_count(connection, sa.select(stands.c.rater).distinct().subquery()),
        choices={name: by_choice[name] for name in CHOICES if name in by_choice},
    )


_CASE = tasks.alias()
_IS_OPEN = (tasks.c.lane < 2) & (tasks.c.k > tasks.c.n_done + tasks.c.n_leased)


def n_open(connection: sa.Connection) -> int:
    """Ordinary tasks that have a place free, for whomever."""
    return _count(connection, sa.select(tasks.c.id).where(_IS_OPEN).subquery())


def progress(connection: sa.Connection, rater: str, n_free: int) -> RaterProgress:
    """How far one rater is. n_free: what ``n_open`` says: counting that takes longest."""
    mine = sa.select(standing.c.task_id).join(tasks).where(standing.c.rater == rater)
    held = sa.select(leases.c.token).join(tasks).where(leases.c.rater == rater, tasks.c.lane < 2)
    done = mine.where(_IS_LABEL)
    cases = (
        sa.select(tasks.c.id)
        .join(_CASE, _CASE.c.comparison_id == tasks.c.id)
        .join(served, served.c.task_id == _CASE.c.id)
        .where(served.c.rater == rater, _CASE.c.kind == "adjudicate")
    )
    not_for_me = sum(
        _count(connection, query.where(_IS_OPEN).subquery()) for query in (mine, held, cases)
    )
    return RaterProgress(
        done=_count(connection, done.subquery()),
        skipped=_count(connection, done.where(standing.c.choice == "skip").subquery()),
        left=max(0, n_free - not_for_me) + _count(connection, held.subquery()),
    )


def history(connection: sa.Connection, rater: str, before: int | None, limit: int) -> list[Entry]:
    """The rater's votes that stand, newest first, without their words."""
    query = THAT_STAND if before is None else THAT_STAND.where(votes.c.seq < before)
    rows = connection.execute(query.limit(limit), {"by": rater}).mappings()
    return [Entry(row["seq"], vote_of(row)) for row in rows]


def standing_vote(connection: sa.Connection, rater: str, vote_id: str) -> Vote | None:
    """The rater's vote of this id with its words, if it stands."""
    query = THAT_STAND.where(votes.c.id == vote_id)
    found = connection.execute(query, {"by": rater}).first()
    return None if found is None else vote_by_id(connection, vote_id)


def _count(connection: sa.Connection, rows: sa.Subquery) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(rows)) or 0
