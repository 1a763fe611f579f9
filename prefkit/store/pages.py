"""Comparisons and votes page by page, for programs: each page ends at a row number.

Gold items and hidden repeats are left out: they say how a rater does, and nothing of the work.
Nothing is ever written before the end of a page that was read, so who goes on from there misses
nothing.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from prefkit.core.records import Comparison, Vote
from prefkit.store import rows as records
from prefkit.store.counting import HIDDEN_TASKS, IS_WORK
from prefkit.store.database import Database
from prefkit.store.tables import comparisons, events, standing, votes

_LAST = (1 << 63) - 1


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

    On PostgreSQL a transaction may take a number and end after one that took a greater number:
    the lock waits for those that are writing now.
    """
    if database.is_sqlite:
        return _LAST

    def work(connection: sa.Connection) -> int:
        connection.execute(sa.text(f"LOCK TABLE {table.name} IN SHARE MODE"))
        return connection.scalar(sa.select(sa.func.max(table.c.seq))) or 0

    return database.write(work)
