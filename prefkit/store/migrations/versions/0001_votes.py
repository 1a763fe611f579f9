"""Comparisons, tasks, votes (append-only), served sides and standing votes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_AT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make every table, index and trigger of the first version."""
    op.create_table(
        "meta",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "comparisons",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("a", sa.Text, nullable=False),
        sa.Column("b", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("comparisons_origin", "comparisons", ["origin"])
    op.create_table(
        "tasks",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("comparison_id", sa.Text, sa.ForeignKey("comparisons.id"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("k", sa.Integer, nullable=False),
        sa.Column("n_done", sa.Integer, nullable=False),
        sa.Column("shuffle", sa.Integer, nullable=False),
        sa.CheckConstraint("k >= 1 AND n_done >= 0", name="tasks_counters"),
    )
    op.create_index("tasks_comparison", "tasks", ["comparison_id"])
    open_tasks = sa.text("n_done < k")
    op.create_index(
        "tasks_open",
        "tasks",
        ["shuffle", "id"],
        sqlite_where=open_tasks,
        postgresql_where=open_tasks,
    )
    op.create_table(
        "votes",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id"), nullable=False),
        sa.Column("comparison_id", sa.Text, sa.ForeignKey("comparisons.id"), nullable=False),
        sa.Column("rater", sa.Text, nullable=False),
        sa.Column("rater_kind", sa.Text, nullable=False),
        sa.Column("choice", sa.Text, nullable=False),
        sa.Column("at", _AT, nullable=False),
        sa.Column("strength", sa.Integer),
        sa.Column("p_a", sa.Double),
        sa.Column("confidence", sa.Double),
        sa.Column("aspects", sa.Text, nullable=False),
        sa.Column("rationale", sa.Text),
        sa.Column("edit", sa.Text),
        sa.Column("shown_first", sa.Text),
        sa.Column("active_ms", sa.BigInteger),
        sa.Column("guideline_version", sa.Text),
        sa.Column("late", sa.Boolean, nullable=False),
        sa.Column("replaces", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("votes_comparison", "votes", ["comparison_id"])
    op.create_table(
        "served",
        sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id"), primary_key=True),
        sa.Column("rater", sa.Text, primary_key=True),
        sa.Column("shown_first", sa.Text, nullable=False),
        sa.Column("at", _AT, nullable=False),
    )
    op.create_table(
        "standing",
        sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.id"), primary_key=True),
        sa.Column("rater", sa.Text, primary_key=True),
        sa.Column("vote_id", sa.Text, sa.ForeignKey("votes.id"), nullable=False),
        sa.Column("choice", sa.Text, nullable=False),
        sa.Column("counted", sa.Boolean, nullable=False),
    )
    op.create_index("standing_rater", "standing", ["rater"])
    _keep_votes_append_only()


def _keep_votes_append_only() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for action in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER votes_no_{action.lower()} BEFORE {action} ON votes "
                "BEGIN SELECT RAISE(ABORT, 'votes are append-only'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION prefkit_votes_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'votes are append-only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER votes_append_only BEFORE UPDATE OR DELETE ON votes "
        "FOR EACH ROW EXECUTE FUNCTION prefkit_votes_append_only()"
    )
    op.execute(
        "CREATE TRIGGER votes_no_truncate BEFORE TRUNCATE ON votes "
        "FOR EACH STATEMENT EXECUTE FUNCTION prefkit_votes_append_only()"
    )
