"""The store's tables as SQLAlchemy Core sees them; the migrations make them.

events               the truth: what raters did, append-only, one hash chain a rater
texts                rationales and edits, apart, so that a person's words can be erased
heads                signed ends of the chains, append-only
comparisons, tasks   what is served: a comparison, how many votes it wants and has
raters               the end of each chain, and where its rater is in the order of tasks
votes, standing,     views: they follow from events, are written in the same transaction, and
served, flags        ``replay`` makes them again; so is ``tasks.n_done``
leases               who holds which task right now; neither truth nor view
users and the rest   people, their names (here alone) and what the app needs to know of them

Documents are ASCII JSON text: PostgreSQL takes no NUL and SQLite no lone surrogate, and scraped
text has both. No table has a foreign key to ``users``: erasing a person breaks nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from prefkit.core.surrogates import encodable_text

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


def storable(text: str) -> str:
    """``text`` as both databases take it: NUL and lone surrogates become U+FFFD."""
    return encodable_text(text).replace("\0", "\N{REPLACEMENT CHARACTER}")


class AnyText(sa.types.TypeDecorator[str]):
    """Text that people, models and file names gave; what no database takes becomes U+FFFD."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Without NUL and lone surrogates."""
        return None if value is None else storable(value)


# SQLite counts rows up only in a column declared exactly INTEGER.
_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, nullable=null)


def _whole(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=null)


def _moment(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, AwareUtc, nullable=null)


def _flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean, nullable=False)


def _key(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, primary_key=True)


def _counted() -> sa.Column[Any]:
    return sa.Column("seq", _SEQ, primary_key=True, autoincrement=True)


def _task(*, key: bool = False) -> sa.Column[Any]:
    return sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id"), primary_key=key, nullable=False)


meta = sa.Table("meta", metadata, _key("key"), _text("value"))
comparisons = sa.Table(
    "comparisons",
    metadata,
    _counted(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("origin", AnyText, nullable=False),
    _text("prompt"),
    _text("a"),
    _text("b"),
    sqlite_autoincrement=True,
)
# lane: 0 the random slice, 1 in order, 2 gold, 3 of one rater (only_rater), never scanned for.
tasks = sa.Table(
    "tasks",
    metadata,
    _key("id"),
    sa.Column("comparison_id", sa.Text, sa.ForeignKey("comparisons.id"), nullable=False),
    _text("kind"),
    sa.Column("k", sa.Integer, nullable=False),
    sa.Column("n_done", sa.Integer, nullable=False),
    sa.Column("shuffle", sa.Integer, nullable=False),
    sa.Column("n_leased", sa.Integer, nullable=False, server_default="0"),
    sa.Column("lane", sa.SmallInteger, nullable=False, server_default="1"),
    sa.Column("priority", sa.BigInteger, nullable=False, server_default="0"),
    _text("only_rater", null=True),
    _text("gold", null=True),
    sa.CheckConstraint("k >= 1 AND n_done >= 0", name="tasks_counters"),
    sa.CheckConstraint("n_leased >= 0", name="tasks_leased"),
)
# at: microseconds since 1970 UTC, here and in heads: what is hashed is what is stored.
events = sa.Table(
    "events",
    metadata,
    _counted(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    _text("rater"),
    _whole("n"),
    _text("kind"),
    _text("task_id", null=True),
    _whole("at"),
    _text("payload"),
    _text("prev"),
    _text("hash"),
    sa.UniqueConstraint("rater", "n", name="events_chain"),
    sqlite_autoincrement=True,
)
texts = sa.Table(
    "texts",
    metadata,
    _key("vote_id"),
    _key("field"),
    _text("rater"),
    _text("salt"),
    sa.Column("text", AnyText, nullable=False),
)
heads = sa.Table(
    "heads",
    metadata,
    _counted(),
    _whole("at"),
    _text("chains"),
    _text("prev"),
    _text("hash"),
    _text("key_id"),
    _text("signature"),
    sqlite_autoincrement=True,
)
# n_signed: the n of this chain in the newest head that names it.
raters = sa.Table(
    "raters",
    metadata,
    _key("rater"),
    _whole("n"),
    _text("head"),
    _whole("n_served"),
    _whole("n_votes"),
    _whole("n_signed"),
    _whole("epoch"),
    _whole("at0_p"),
    _text("at0_id"),
    _whole("at1_p"),
    _text("at1_id"),
    _whole("at2_p"),
    _text("at2_id"),
    _moment("looked_at", null=True),
)
# seq: that of the event, so that votes of several writers stand in one order, live and replayed.
votes = sa.Table(
    "votes",
    metadata,
    sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    _task(),
    sa.Column("comparison_id", sa.Text, sa.ForeignKey("comparisons.id"), nullable=False),
    _text("rater"),
    _text("rater_kind"),
    _text("choice"),
    _moment("at"),
    sa.Column("strength", sa.Integer),
    sa.Column("p_a", sa.Double),
    sa.Column("confidence", sa.Double),
    _text("aspects"),
    _text("shown_first", null=True),
    _whole("active_ms", null=True),
    _text("guideline_version", null=True),
    _flag("late"),
    _text("replaces", null=True),
)
served = sa.Table(
    "served",
    metadata,
    _task(key=True),
    _key("rater"),
    _text("shown_first"),
    _moment("at"),
    sa.Column("lane", sa.SmallInteger, nullable=False),
    _text("token"),
)
standing = sa.Table(
    "standing",
    metadata,
    _task(key=True),
    _key("rater"),
    sa.Column("vote_id", sa.Text, sa.ForeignKey("votes.id"), nullable=False),
    _text("choice"),
    _flag("counted"),
)
flags = sa.Table(
    "flags",
    metadata,
    _task(key=True),
    _key("rater"),
    _text("note_id", null=True),
    _moment("at"),
)
leases = sa.Table(
    "leases",
    metadata,
    _key("token"),
    _task(),
    _text("rater"),
    _text("shown_first"),
    sa.Column("lane", sa.SmallInteger, nullable=False),
    _moment("issued_at"),
    _moment("expires_at"),
    _flag("live"),
    sa.UniqueConstraint("task_id", "rater", name="leases_once"),
)
guidelines = sa.Table("guidelines", metadata, _key("version"), _text("text"), _moment("at"))
users = sa.Table(
    "users",
    metadata,
    _key("id"),
    sa.Column("name", sa.Text, unique=True),
    _text("role"),
    _text("password", null=True),
    _text("issuer", null=True),
    _text("subject", null=True),
    _flag("disabled"),
    sa.Column("epoch", sa.Integer, nullable=False),
    _text("locale", null=True),
    _text("prefs", null=True),
    _moment("at"),
    _moment("erased_at", null=True),
    sa.UniqueConstraint("issuer", "subject", name="users_subject"),
)
sessions = sa.Table(
    "sessions",
    metadata,
    _key("id"),
    _text("user_id"),
    sa.Column("epoch", sa.Integer, nullable=False),
    _moment("at"),
    _moment("expires_at"),
    _flag("ended"),
)
failures = sa.Table(
    "failures",
    metadata,
    _key("key"),
    sa.Column("n", sa.Integer, nullable=False),
    _moment("first_at"),
    _moment("locked_until", null=True),
)
tokens = sa.Table(
    "tokens",
    metadata,
    _key("id"),
    _text("user_id"),
    _text("label"),
    _text("digest"),
    _text("scopes"),
    _moment("at"),
    _moment("expires_at", null=True),
    _flag("ended"),
)
hooks = sa.Table(
    "hooks",
    metadata,
    _key("id"),
    _text("url"),
    _text("secret"),
    _text("kinds"),
    _flag("active"),
    _moment("at"),
)
outbox = sa.Table(
    "outbox",
    metadata,
    _counted(),
    _whole("event_seq"),
    _text("hook_id"),
    _text("body"),
    sa.Column("tries", sa.Integer, nullable=False),
    _moment("next_at"),
    _moment("claimed_until", null=True),
    _text("state"),
    _text("said", null=True),
    sqlite_autoincrement=True,
)
