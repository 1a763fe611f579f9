"""How much there is: the store as a whole, one origin in it, one rater's share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from prefkit.core.records import CHOICES, Vote
from prefkit.store.database import Database
from prefkit.store.quick import Quick
from prefkit.store.rows import THAT_STAND, vote_by_id, vote_of
from prefkit.store.tables import comparisons, standing, tasks, votes

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


_IS_OPEN = "t.lane < 2 AND t.k > t.n_done + t.n_leased"
_N_OPEN = Quick(f"SELECT count(*) FROM tasks t WHERE {_IS_OPEN}")
_STANDING = "FROM standing s JOIN tasks t ON t.id = s.task_id WHERE s.rater = :rater"
_HELD = "FROM leases l JOIN tasks t ON t.id = l.task_id WHERE l.rater = :rater"
# A pair that a reviewer decides is not served to them.
_DECIDED = (
    "FROM served v JOIN tasks j ON j.id = v.task_id AND j.kind = 'adjudicate' "
    "JOIN tasks t ON t.comparison_id = j.comparison_id WHERE v.rater = :rater"
)
_PROGRESS = Quick(f"""SELECT
  (SELECT count(*) {_STANDING} AND t.kind = 'label') AS done,
  (SELECT count(*) {_STANDING} AND t.kind = 'label' AND s.choice = 'skip') AS skipped,
  (SELECT count(*) {_HELD} AND t.lane < 2) AS held,
  (SELECT count(*) {_STANDING} AND {_IS_OPEN}) + (SELECT count(*) {_HELD} AND {_IS_OPEN})
  + (SELECT count(*) {_DECIDED} AND {_IS_OPEN}) AS not_for_them""")


def n_open(database: Database) -> int:
    """Ordinary tasks that have a place free, for whomever."""
    return database.look(_N_OPEN).scalar()


def progress(database: Database, rater: str, n_free: int) -> RaterProgress:
    """How far one rater is. n_free: what ``n_open`` says: counting that takes longest."""
    found = database.look(_PROGRESS, rater=rater).one()
    left = max(0, n_free - found.not_for_them) + found.held
    return RaterProgress(done=found.done, skipped=found.skipped, left=left)


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
