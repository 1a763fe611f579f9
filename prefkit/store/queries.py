"""What a lead asks of a store: how far it is, who votes, what is disputed, what happened to a pair.

Reads only. Raters are ids; names come with them where a function says so. What could take long
is bounded: it ends with TookTooLong, or says where to go on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from prefkit.core.errors import StoreError
from prefkit.core.records import Comparison, TaskKind, Vote
from prefkit.store.database import Database, chunks
from prefkit.store.rows import comparison_of, vote_of, votes_with_words
from prefkit.store.tables import (
    comparisons,
    events,
    flags,
    served,
    standing,
    tasks,
    texts,
    users,
    votes,
)

PAGE = 50
SECONDS = 5.0
_STEPS = 20_000  # of SQLite's machine between two looks at the clock
_PEOPLE = votes.c.rater_kind == "human"
_LABELS = tasks.c.kind == "label"


class TookTooLong(StoreError):
    """A question that the store could not answer in time."""


@contextmanager
def bounded(database: Database, seconds: float = SECONDS) -> Generator[sa.Connection]:
    """A reading connection whose statements end after ``seconds``, all together on SQLite.

    Raises TookTooLong.
    """
    until = time.monotonic() + seconds
    try:
        with database.reading() as connection:
            if not database.is_sqlite:
                connection.execute(sa.text(f"SET LOCAL statement_timeout = {int(1000 * seconds)}"))
                yield connection
                return
            raw: Any = connection.connection.driver_connection
            raw.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
            try:
                yield connection
            finally:
                raw.set_progress_handler(None, 0)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == "57014" or "interrupted" in str(error.orig):
            raise TookTooLong(
                f"no answer within {seconds:g} s", hint="ask for less, or try again"
            ) from None
        raise


# Progress


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work is. wanted: votes of all label tasks; done: those they have, none counted
    beyond what is wanted. n_tasks = n_full + those still open."""

    wanted: int
    done: int
    n_tasks: int
    n_full: int


@dataclass(frozen=True, slots=True)
class Day:
    """What people did on one day (UTC, ISO 8601): counted votes on label tasks that stand."""

    day: str
    n_votes: int
    n_raters: int


def progress(database: Database) -> Progress:
    """How far the work is."""
    most = sa.case((tasks.c.n_done < tasks.c.k, tasks.c.n_done), else_=tasks.c.k)
    full = sa.case((tasks.c.n_done >= tasks.c.k, 1), else_=0)
    columns = [sa.func.coalesce(sa.func.sum(column), 0) for column in (tasks.c.k, most, full)]
    query = sa.select(*columns, sa.func.count()).where(_LABELS)
    with bounded(database) as connection:
        wanted, done, n_full, n_tasks = map(int, connection.execute(query).one())
    return Progress(wanted, done, n_tasks, n_full)


def progress_by_day(database: Database) -> list[Day]:
    """Days with a vote of a person that counts, oldest first."""
    day = _day(database)
    query = (
        sa.select(day, sa.func.count(), sa.func.count(votes.c.rater.distinct()))
        .select_from(standing)
        .join(tasks, tasks.c.id == standing.c.task_id)
        .join(votes, votes.c.id == standing.c.vote_id)
        .where(_LABELS, standing.c.counted, _PEOPLE)
        .group_by(day)
        .order_by(day)
    )
    with bounded(database) as connection:
        return [Day(*row) for row in connection.execute(query)]


def _day(database: Database) -> sa.ColumnElement[str]:
    if database.is_sqlite:  # kept as text, in UTC
        return sa.func.substr(sa.type_coerce(votes.c.at, sa.Text), 1, 10)
    # Literals: a parameter would be another expression in GROUP BY than in SELECT.
    utc = sa.func.timezone(sa.literal_column("'UTC'"), votes.c.at)
    return sa.func.to_char(utc, sa.literal_column("'YYYY-MM-DD'"))


# Raters


@dataclass(frozen=True, slots=True)
class RaterFacts:
    """A person who voted, or may. name: None where it was erased. n_votes: those on label tasks
    that stand, skips among them; n_late and n_skipped are of these. n_flags: tasks they flagged.
    """

    rater: str
    name: str | None
    role: str | None
    disabled: bool
    n_votes: int
    n_late: int
    n_skipped: int
    n_flags: int
    first_at: datetime | None
    last_at: datetime | None


def raters_table(database: Database) -> list[RaterFacts]:
    """Every person with an account or a vote, by id."""
    late = sa.func.sum(sa.case((votes.c.late, 1), else_=0))
    skipped = sa.func.sum(sa.case((votes.c.choice == "skip", 1), else_=0))
    did = (
        sa.select(
            votes.c.rater,
            sa.func.count().label("n"),
            late.label("late"),
            skipped.label("skipped"),
            sa.func.min(votes.c.at).label("first_at"),
            sa.func.max(votes.c.at).label("last_at"),
        )
        .select_from(standing)
        .join(tasks, tasks.c.id == standing.c.task_id)
        .join(votes, votes.c.id == standing.c.vote_id)
        .where(_LABELS, _PEOPLE)
        .group_by(votes.c.rater)
    )
    flagged = sa.select(flags.c.rater, sa.func.count()).group_by(flags.c.rater)
    with bounded(database) as connection:
        of_rater = {row.rater: row for row in connection.execute(did)}
        n_flags = {row[0]: int(row[1]) for row in connection.execute(flagged)}
        known = {row.id: row for row in connection.execute(sa.select(users))}
    return [
        _facts(rater, known.get(rater), of_rater.get(rater), n_flags.get(rater, 0))
        for rater in sorted(known.keys() | of_rater.keys())
    ]


def _facts(rater: str, user: Any, did: Any, n_flags: int) -> RaterFacts:
    return RaterFacts(
        rater=rater,
        name=None if user is None else user.name,
        role=None if user is None else user.role,
        disabled=user is not None and bool(user.disabled),
        n_votes=0 if did is None else int(did.n),
        n_late=0 if did is None else int(did.late),
        n_skipped=0 if did is None else int(did.skipped),
        n_flags=n_flags,
        first_at=None if did is None else did.first_at,
        last_at=None if did is None else did.last_at,
    )


# Everything


def comparisons_from(database: Database, seq: int, most: int) -> list[tuple[int, Comparison]]:
    """Up to ``most`` comparisons after row ``seq``, gold items among them, with row numbers."""
    query = sa.select(comparisons).where(comparisons.c.seq > seq).order_by(comparisons.c.seq)
    with bounded(database) as connection:
        rows = connection.execute(query.limit(most)).mappings()
        return [(row["seq"], comparison_of(row)) for row in rows]


def votes_from(database: Database, seq: int, most: int) -> list[tuple[int, Vote]]:
    """Up to ``most`` votes after row ``seq``, on hidden tasks too, with row numbers, without words.

    On PostgreSQL a vote may be committed later than one with a greater number.
    """
    query = sa.select(votes).where(votes.c.seq > seq).order_by(votes.c.seq).limit(most)
    with bounded(database) as connection:
        return [(row["seq"], vote_of(row)) for row in connection.execute(query).mappings()]


# One comparison


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that was done with a comparison.

    vote: where it is a vote or an undo, with its words; stands: whether it is its rater's last
    word. note: of a flag. reasons: of an adjudication.
    """

    at: datetime
    kind: str
    task_kind: TaskKind
    rater: str
    vote: Vote | None = None
    stands: bool = False
    note: str | None = None
    reasons: tuple[str, ...] = ()


def find_comparison(database: Database, comparison_id: str) -> Comparison | None:
    """The comparison of this id, or None."""
    query = sa.select(comparisons).where(comparisons.c.id == comparison_id)
    with bounded(database) as connection:
        row = connection.execute(query).mappings().first()
    return None if row is None else comparison_of(row)


def task_history(database: Database, comparison_id: str) -> list[Happened]:
    """All that happened to a comparison's tasks, oldest first; empty for one that is not there."""
    of_it = tasks.c.comparison_id == comparison_id
    shown = sa.select(served.c.at, served.c.rater, tasks.c.kind).join(tasks).where(of_it)
    noted = texts.alias()
    raised = (
        sa.select(flags.c.at, flags.c.rater, tasks.c.kind, noted.c.text)
        .join(tasks, tasks.c.id == flags.c.task_id)
        .outerjoin(noted, (noted.c.vote_id == flags.c.note_id) & (noted.c.field == "note"))
        .where(of_it)
    )
    cast_votes = votes_with_words().where(votes.c.comparison_id == comparison_id)
    with bounded(database) as connection:
        known = connection.execute(sa.select(tasks.c.id, tasks.c.kind).where(of_it))
        kinds: dict[str, TaskKind] = {row.id: row.kind for row in known}
        found = [Happened(r.at, "shown", r.kind, r.rater) for r in connection.execute(shown)]
        found += [
            Happened(r.at, "flag", r.kind, r.rater, note=r.text) for r in connection.execute(raised)
        ]
        written = [vote_of(row) for row in connection.execute(cast_votes).mappings()]
        ids = [vote.id for vote in written]
        stand = set(
            connection.scalars(sa.select(standing.c.vote_id).where(standing.c.vote_id.in_(ids)))
        )
        reasons = _reasons(connection, ids)
    for vote in written:
        kind = "undo" if vote.choice == "withdrawn" else "vote"
        found.append(
            Happened(
                vote.at,
                kind,
                kinds[vote.task_id],
                vote.rater,
                vote,
                vote.id in stand,
                reasons=reasons.get(vote.id, ()),
            )
        )
    return sorted(found, key=lambda h: (h.at, h.kind, h.rater))


def _reasons(connection: sa.Connection, ids: list[str]) -> dict[str, tuple[str, ...]]:
    """Vote id → the reasons in its event, of those that have some."""
    found: dict[str, tuple[str, ...]] = {}
    for chunk in chunks(ids):
        query = sa.select(events.c.id, events.c.payload).where(events.c.id.in_(chunk))
        for row in connection.execute(query):
            given = json.loads(row.payload).get("reasons")
            if given:
                found[row.id] = tuple(given)
    return found
