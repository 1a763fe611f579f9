"""Events with a hash chain a rater become the truth; votes, served and standing follow from them.

People's names move to ``users``, and their rows carry an opaque id; rationales and edits move to
``texts``. Every old vote, and every side that was shown, gets its event.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from prefkit.store.migrations.moving_0002 import OLD, Move

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_AT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Put the old rows aside, make the new tables, and write each old row into its place."""
    connection = op.get_bind()
    for name in OLD:
        op.execute(f"CREATE TEMPORARY TABLE old_{name} AS SELECT * FROM {name}")
    for name in ("standing", "served", "votes"):
        op.drop_table(name)
    if connection.dialect.name != "sqlite":
        op.execute("DROP FUNCTION prefkit_votes_append_only()")
    _change_tasks()
    _create_truth()
    _create_views()
    _create_work()
    _create_people()
    Move(connection).run()
    for name in OLD:
        op.execute(f"DROP TABLE old_{name}")
    _guard()


def _text(name: str, *, null: bool = False, key: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, nullable=null, primary_key=key)


def _whole(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=null)


def _at(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, _AT, nullable=null)


def _flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean, nullable=False)


def _seq() -> sa.Column[Any]:
    return sa.Column("seq", _SEQ, primary_key=True, autoincrement=True)


def _task(*, key: bool = False) -> sa.Column[Any]:
    return sa.Column(
        "task_id", sa.Text, sa.ForeignKey("tasks.id"), nullable=False, primary_key=key
    )


def _change_tasks() -> None:
    # Raw: a batch would make the table anew, and votes and comparisons point at it.
    for column in (
        "n_leased INTEGER NOT NULL DEFAULT 0 CONSTRAINT tasks_leased CHECK (n_leased >= 0)",
        "lane SMALLINT NOT NULL DEFAULT 1",
        "priority BIGINT NOT NULL DEFAULT 0",
        "only_rater TEXT",
        "gold TEXT",
    ):
        op.execute(f"ALTER TABLE tasks ADD COLUMN {column}")
    op.execute("UPDATE tasks SET priority = shuffle")
    op.drop_index("tasks_open", "tasks")
    # Worded so that SQLite finds it again: it turns "a + b < k" round, and then the words differ.
    is_open = sa.text("k > n_done + n_leased")
    op.create_index(
        "tasks_open",
        "tasks",
        ["lane", "priority", "id"],
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    if op.get_bind().dialect.name != "sqlite":
        op.execute(
            "ALTER TABLE tasks SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02)"
        )


def _create_truth() -> None:
    op.create_table(
        "events",
        _seq(),
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
    op.create_table(
        "texts",
        _text("vote_id", key=True),
        _text("field", key=True),
        _text("rater"),
        _text("salt"),
        _text("text"),
    )
    op.create_index("texts_rater", "texts", ["rater"])
    op.create_table(
        "heads",
        _seq(),
        _whole("at"),
        *(_text(name) for name in ("chains", "prev", "hash", "key_id", "signature")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "raters",
        _text("rater", key=True),
        _whole("n"),
        _text("head"),
        *(_whole(name) for name in ("n_served", "n_votes", "n_signed", "epoch")),
        _whole("at0_p"),
        _text("at0_id"),
        _whole("at1_p"),
        _text("at1_id"),
        _whole("at2_p"),
        _text("at2_id"),
        _at("looked_at", null=True),
    )


def _create_views() -> None:
    op.create_table(
        "votes",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        _task(),
        sa.Column("comparison_id", sa.Text, sa.ForeignKey("comparisons.id"), nullable=False),
        _text("rater"),
        _text("rater_kind"),
        _text("choice"),
        _at("at"),
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
    op.create_index("votes_comparison", "votes", ["comparison_id"])
    op.create_index("votes_rater", "votes", ["rater", "seq"])
    op.create_index("votes_at", "votes", ["at"])
    op.create_table(
        "standing",
        _task(key=True),
        _text("rater", key=True),
        sa.Column("vote_id", sa.Text, sa.ForeignKey("votes.id"), nullable=False),
        _text("choice"),
        _flag("counted"),
    )
    op.create_index("standing_rater", "standing", ["rater"])
    op.create_table(
        "served",
        _task(key=True),
        _text("rater", key=True),
        _text("shown_first"),
        _at("at"),
        sa.Column("lane", sa.SmallInteger, nullable=False),
        _text("token"),
    )
    op.create_index("served_rater", "served", ["rater"])
    op.create_index("served_token", "served", ["token"], unique=True)
    op.create_table(
        "flags", _task(key=True), _text("rater", key=True), _text("note_id", null=True), _at("at")
    )


def _create_work() -> None:
    op.create_table(
        "leases",
        _text("token", key=True),
        _task(),
        _text("rater"),
        _text("shown_first"),
        sa.Column("lane", sa.SmallInteger, nullable=False),
        _at("issued_at"),
        _at("expires_at"),
        _flag("live"),
        sa.UniqueConstraint("task_id", "rater", name="leases_once"),
    )
    op.create_index("leases_rater", "leases", ["rater"])
    live = sa.text("live")
    op.create_index(
        "leases_due", "leases", ["expires_at"], sqlite_where=live, postgresql_where=live
    )
    op.create_table("guidelines", _text("version", key=True), _text("text"), _at("at"))
    op.create_table(
        "hooks",
        _text("id", key=True),
        *(_text(name) for name in ("url", "secret", "kinds")),
        _flag("active"),
        _at("at"),
    )
    op.create_table(
        "outbox",
        _seq(),
        _whole("event_seq"),
        _text("hook_id"),
        _text("body"),
        sa.Column("tries", sa.Integer, nullable=False),
        _at("next_at"),
        _at("claimed_until", null=True),
        _text("state"),
        _text("said", null=True),
        sqlite_autoincrement=True,
    )
    waiting = sa.text("state = 'waiting'")
    op.create_index(
        "outbox_due", "outbox", ["next_at"], sqlite_where=waiting, postgresql_where=waiting
    )


def _create_people() -> None:
    op.create_table(
        "users",
        _text("id", key=True),
        sa.Column("name", sa.Text, unique=True),
        _text("role"),
        *(_text(name, null=True) for name in ("password", "issuer", "subject")),
        _flag("disabled"),
        sa.Column("epoch", sa.Integer, nullable=False),
        *(_text(name, null=True) for name in ("locale", "prefs")),
        _at("at"),
        _at("erased_at", null=True),
        sa.UniqueConstraint("issuer", "subject", name="users_subject"),
    )
    op.create_table(
        "sessions",
        _text("id", key=True),
        _text("user_id"),
        sa.Column("epoch", sa.Integer, nullable=False),
        _at("at"),
        _at("expires_at"),
        _flag("ended"),
    )
    op.create_table(
        "failures",
        _text("key", key=True),
        sa.Column("n", sa.Integer, nullable=False),
        _at("first_at"),
        _at("locked_until", null=True),
    )
    op.create_table(
        "tokens",
        _text("id", key=True),
        *(_text(name) for name in ("user_id", "label", "digest", "scopes")),
        _at("at"),
        _at("expires_at", null=True),
        _flag("ended"),
    )


def _guard() -> None:
    """Let events, votes and heads grow only; the words of a vote may go, but not change."""
    rules = [("events", "UPDATE DELETE"), ("votes", "UPDATE DELETE"), ("heads", "UPDATE DELETE")]
    rules.append(("texts", "UPDATE"))
    if op.get_bind().dialect.name == "sqlite":
        for table, actions in rules:
            for action in actions.split():
                op.execute(
                    f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} are append-only'); END"
                )
        return
    op.execute(
        "CREATE FUNCTION prefkit_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% are append-only', TG_TABLE_NAME; END $$"
    )
    for table, actions in rules:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE {' OR '.join(actions.split())} ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION prefkit_append_only()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION prefkit_append_only()"
        )
