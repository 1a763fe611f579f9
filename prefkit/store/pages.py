"""Comparisons and votes page by page, for programs: each page ends at a row number.

Gold items and hidden repeats are left out: they say how a rater does, and nothing of the work.
Nothing is ever written before the end of a page that was read, so who goes on from there misses
nothing.
"""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

from prefkit.core.errors import StoreError
from prefkit.core.records import Comparison, Vote
from prefkit.store import rows as records
from prefkit.store.counting import HIDDEN_TASKS, IS_WORK
from prefkit.store.database import BUSY_SECONDS, Database
from prefkit.store.tables import comparisons, events, standing, votes

_LAST = (1 << 63) - 1
_LOOK_SECONDS = 0.002  # between two looks at who is writing: about as long as a vote takes
_WRITERS = sa.text(
    "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND granted AND mode = "
    "'RowExclusiveLock' AND relation = CAST(:name AS regclass) AND database = "
    "(SELECT oid FROM pg_database WHERE datname = current_database())"
)


def comparisons_after(database: Database, seq: int, most: int) -> list[tuple[int, Comparison]]:
    """Up to ``most`` comparisons that were added after row ``seq``, each with its row number."""
    query = (
        sa.select(comparisons)
        .where(comparisons.c.seq > seq, comparisons.c.seq <= _end(database, comparisons), IS_WORK)
        .order_by(comparisons.c.seq)
        .limit(most)
    )
    with database.reading() as connection:
        rows = connection.execute(query).mappings()
        return [(row["seq"], records.comparison_of(row)) for row in rows]


def votes_after(database: Database, seq: int, most: int) -> list[tuple[int, Vote, bool]]:
    """Up to ``most`` votes written after row ``seq``: row number, vote, whether it stands.

    A vote that stands is its rater's last word on the task.
    """
    query: Any = records.votes_with_words().where(
        votes.c.seq > seq,
        votes.c.seq <= _end(database, events),  # a vote has the number of its event
        votes.c.task_id.not_in(HIDDEN_TASKS),
    )
    with database.reading() as connection:
        rows = connection.execute(query.order_by(votes.c.seq).limit(most)).mappings().all()
        ids = [row["id"] for row in rows]
        stands = set(
            connection.scalars(sa.select(standing.c.vote_id).where(standing.c.vote_id.in_(ids)))
        )
    return [(row["seq"], records.vote_of(row), row["id"] in stands) for row in rows]


def _end(database: Database, table: sa.Table) -> int:
    """A row number of ``table`` up to which all that will ever be written has been.

    On PostgreSQL a transaction may take a number and end after one that took a greater number. It
    takes the table's lock before: whoever has a number up to the greatest that is seen holds that
    lock now, or has ended. They are waited for, and keep nobody else from writing.
    """
    if database.is_sqlite:
        return _LAST
    until = time.monotonic() + BUSY_SECONDS
    with database.reading() as connection:
        end: int = connection.scalar(sa.select(sa.func.max(table.c.seq))) or 0
        before = waited_for = _writers(connection, table)
        while waited_for:
            if time.monotonic() > until:
                raise StoreError(
                    f"{database.name}: a transaction has been writing for {BUSY_SECONDS} s",
                    hint="end it, or wait and try again",
                )
            time.sleep(_LOOK_SECONDS)
            waited_for = before & _writers(connection, table)
    return end


def _writers(connection: sa.Connection, table: sa.Table) -> set[str]:
    """The transactions that have written to ``table``, or are about to, and have not ended."""
    return set(connection.scalars(_WRITERS, {"name": table.name}))
