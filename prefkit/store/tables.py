"""The store's tables as SQLAlchemy Core sees them; the migrations make them.

comparisons, votes   what is known; votes are append-only, held so by triggers
tasks                what is served: a comparison, how many votes it wants and has
served               which slot a rater saw on the left, so that a reload shows the same
standing             the last word of each rater on each task, and thereby what is open

``tasks.n_done`` and ``standing`` follow from ``votes`` and are written in the same transaction;
``VoteStore.verify`` counts them again. Documents are ASCII JSON text: PostgreSQL takes no NUL
and SQLite no lone surrogate, and scraped text has both.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()


class AwareUtc(sa.types.TypeDecorator[datetime]):
    """Aware datetimes in UTC on both databases (SQLite keeps no zone)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        """Naive UTC for SQLite, aware for PostgreSQL."""
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Aware UTC from both."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class AnyText(sa.types.TypeDecorator[str]):
    """Text that people, models and file names gave; what no database takes becomes U+FFFD."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Without NUL and lone surrogates."""
        if value is None:
            return None
        return (
            value.encode("utf-16", "surrogatepass")
            .decode("utf-16", "replace")
            .replace("\0", "\N{REPLACEMENT CHARACTER}")
        )


# SQLite counts rows up only in a column declared exactly INTEGER.
_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
comparisons = sa.Table(
    "comparisons",
    metadata,
    sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("origin", AnyText, nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("a", sa.Text, nullable=False),
    sa.Column("b", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)
tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("comparison_id", sa.Text, sa.ForeignKey("comparisons.id"), nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("k", sa.Integer, nullable=False),
    sa.Column("n_done", sa.Integer, nullable=False),
    sa.Column("shuffle", sa.Integer, nullable=False),
    sa.CheckConstraint("k >= 1 AND n_done >= 0", name="tasks_counters"),
)
votes = sa.Table(
    "votes",
    metadata,
    sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id"), nullable=False),
    sa.Column("comparison_id", sa.Text, sa.ForeignKey("comparisons.id"), nullable=False),
    sa.Column("rater", sa.Text, nullable=False),
    sa.Column("rater_kind", sa.Text, nullable=False),
    sa.Column("choice", sa.Text, nullable=False),
    sa.Column("at", AwareUtc, nullable=False),
    sa.Column("strength", sa.Integer),
    sa.Column("p_a", sa.Double),
    sa.Column("confidence", sa.Double),
    sa.Column("aspects", sa.Text, nullable=False),
    sa.Column("rationale", AnyText),
    sa.Column("edit", AnyText),
    sa.Column("shown_first", sa.Text),
    sa.Column("active_ms", sa.BigInteger),
    sa.Column("guideline_version", sa.Text),
    sa.Column("late", sa.Boolean, nullable=False),
    sa.Column("replaces", sa.Text),
    sqlite_autoincrement=True,
)
served = sa.Table(
    "served",
    metadata,
    sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id"), primary_key=True),
    sa.Column("rater", sa.Text, primary_key=True),
    sa.Column("shown_first", sa.Text, nullable=False),
    sa.Column("at", AwareUtc, nullable=False),
)
standing = sa.Table(
    "standing",
    metadata,
    sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id"), primary_key=True),
    sa.Column("rater", sa.Text, primary_key=True),
    sa.Column("vote_id", sa.Text, sa.ForeignKey("votes.id"), nullable=False),
    sa.Column("choice", sa.Text, nullable=False),
    sa.Column("counted", sa.Boolean, nullable=False),
)
