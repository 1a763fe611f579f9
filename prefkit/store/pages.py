"""Comparisons and votes page by page, for programs: each page ends at a row number."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from prefkit.core.records import Comparison, Vote
from prefkit.store import rows as records
from prefkit.store.database import Database
from prefkit.store.tables import comparisons, standing, votes


def comparisons_after(database: Database, seq: int, most: int) -> list[tuple[int, Comparison]]:
    """Up to ``most`` comparisons that were added after row ``seq``, each with its row number."""
    query = (
        sa.select(comparisons)
        .where(comparisons.c.seq > seq)
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
    query: Any = records.votes_with_words().where(votes.c.seq > seq).order_by(votes.c.seq)
    with database.reading() as connection:
        rows = connection.execute(query.limit(most)).mappings().all()
        ids = [row["id"] for row in rows]
        stands = set(
            connection.scalars(sa.select(standing.c.vote_id).where(standing.c.vote_id.in_(ids)))
        )
    return [(row["seq"], records.vote_of(row), row["id"] in stands) for row in rows]
