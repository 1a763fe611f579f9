"""Events with a hash chain a rater become the truth; votes, served and standing follow from them.

People's names move to ``users``, and their rows carry an opaque id; rationales and edits move to
``texts``. Every old vote, and every side that was shown, gets its event.
"""

import hashlib
import json
import secrets
import uuid
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_AT = sa.DateTime(timezone=True)
_OLD = ("votes", "served", "standing")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH = 1000
_OPTIONAL = (
    "strength",
    "p_a",
    "confidence",
    "shown_first",
    "active_ms",
    "guideline_version",
    "replaces",
)


def upgrade() -> None:
    """Put the old rows aside, make the new tables, and write each old row into its place."""
    connection = op.get_bind()
    for name in _OLD:
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
    _Move(connection).run()
    for name in _OLD:
        op.execute(f"DROP TABLE old_{name}")
    _guard()


def _text(name: str, *, null: bool = False, key: bool = False) -> sa.Column:
    return sa.Column(name, sa.Text, nullable=null, primary_key=key)


def _whole(name: str, *, null: bool = False) -> sa.Column:
    return sa.Column(name, sa.BigInteger, nullable=null)


def _at(name: str, *, null: bool = False) -> sa.Column:
    return sa.Column(name, _AT, nullable=null)


def _flag(name: str) -> sa.Column:
    return sa.Column(name, sa.Boolean, nullable=False)


def _seq() -> sa.Column:
    return sa.Column("seq", _SEQ, primary_key=True, autoincrement=True)


def _task(*, key: bool = False) -> sa.Column:
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
    is_open = sa.text("n_done + n_leased < k")
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


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def _compact(value) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


class _Move:
    """The old rows as events and views. The hash is rule 1, written out: see store/chain.py."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.meta = sa.MetaData()
        names = ("events", "texts", "raters", "votes", "served", "standing", "users", "meta")
        self.meta.reflect(connection, only=names)
        self.old = {name: self._old_table(name) for name in _OLD}
        self.waiting: dict[str, list[dict]] = {name: [] for name in ("events", "votes", "texts")}
        self.chains: dict[str, list] = {}  # rater → [n, head, n_served, n_votes]
        self.seq = 0
        self.ids = self._people()

    def _old_table(self, name: str) -> sa.TableClause:
        columns = {
            "votes": "seq id task_id comparison_id rater rater_kind choice strength p_a confidence "
            "aspects rationale edit shown_first active_ms guideline_version replaces",
            "served": "task_id rater shown_first",
            "standing": "task_id rater vote_id choice",
        }[name].split()
        typed = {"votes": {"at": _AT, "late": sa.Boolean}, "served": {"at": _AT}}
        typed["standing"] = {"counted": sa.Boolean}
        return sa.table(
            f"old_{name}",
            *(sa.column(column) for column in columns),
            *(sa.column(column, kind) for column, kind in typed[name].items()),
        )

    def _people(self) -> dict[str, str]:
        """Name → id of everybody under whose name no machine ever voted."""
        names = set()
        for name in _OLD:
            names.update(self.connection.scalars(sa.select(self.old[name].c.rater).distinct()))
        voted = self.old["votes"].c
        machines = set(
            self.connection.scalars(
                sa.select(voted.rater).where(voted.rater_kind != "human").distinct()
            )
        )
        ids = {name: f"u{secrets.token_hex(8)[:15]}" for name in sorted(names - machines)}
        now = datetime.now(UTC)
        rows = [
            {"id": new, "name": name, "role": "rater", "disabled": False, "epoch": 0}
            | {"at": self._moment(now)}
            for name, new in ids.items()
        ]
        self._insert("users", rows)
        return ids

    def run(self) -> None:
        served = {
            (row["task_id"], row["rater"]): row
            for row in self._rows(self.old["served"], "at", "task_id", "rater")
        }
        for row in self._rows(self.old["votes"], "seq"):
            shown = served.pop((row["task_id"], row["rater"]), None)
            if shown is not None:
                self._served(shown)
            self._vote(row)
            if len(self.waiting["events"]) >= _BATCH:
                self._flush()
        for shown in served.values():
            self._served(shown)
        self._flush()
        self._insert(
            "standing",
            [{**row, "rater": self._id(row["rater"])} for row in self._rows(self.old["standing"])],
        )
        self._insert_served()
        self._finish()

    def _rows(self, table: sa.TableClause, *order: str) -> list[dict]:
        query = sa.select(table).order_by(*(table.c[name] for name in order))
        return [dict(row) for row in self.connection.execute(query).mappings()]

    def _id(self, rater: str) -> str:
        return self.ids.get(rater, rater)

    def _moment(self, at: datetime) -> datetime:
        at = _utc(at)
        return at.replace(tzinfo=None) if self.connection.dialect.name == "sqlite" else at

    def _insert(self, name: str, rows: list[dict]) -> None:
        for start in range(0, len(rows), _BATCH):
            table = self.meta.tables[name]
            self.connection.execute(sa.insert(table), rows[start : start + _BATCH])

    def _flush(self) -> None:
        for name, rows in self.waiting.items():
            self._insert(name, rows)
            rows.clear()

    def _event(self, event_id, rater, kind, task_id, at, payload) -> None:
        end = self.chains.setdefault(rater, [0, "0" * 64, 0, 0])
        n, prev = end[0] + 1, end[1]
        at_us = (_utc(at) - _EPOCH) // timedelta(microseconds=1)
        text = _compact(payload)
        hashed = _compact([1, rater, n, kind, at_us, event_id, task_id, text, prev])
        self.seq += 1
        end[:] = [n, _digest(hashed.encode()), end[2] + (kind == "served"), end[3]]
        end[3] += kind == "vote"
        row = {"seq": self.seq, "id": event_id, "rater": rater, "n": n, "kind": kind}
        row |= {"task_id": task_id, "at": at_us, "payload": text, "prev": prev, "hash": end[1]}
        self.waiting["events"].append(row)

    def _served(self, row: dict) -> None:
        token = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{row['task_id']}\n{self._id(row['rater'])}"))
        payload = {"side": row["shown_first"], "lane": 1, "kind": "label"}
        self._event(
            token, self._id(row["rater"]), "served", row["task_id"], row["at"], payload
        )

    def _vote(self, row: dict) -> None:
        rater, aspects = self._id(row["rater"]), json.loads(row["aspects"])
        payload = {name: row[name] for name in ("comparison_id", "rater_kind", "choice", "late")}
        payload |= {name: row[name] for name in _OPTIONAL if row[name] is not None}
        if aspects:
            payload["aspects"] = aspects
        for field in ("rationale", "edit"):
            text = row.pop(field)
            if text is not None:
                salt = secrets.token_bytes(16)
                payload[field] = _digest(salt + text.encode("utf-8"))
                words = {"vote_id": row["id"], "field": field, "rater": rater}
                self.waiting["texts"].append(words | {"salt": salt.hex(), "text": text})
        kind = "undo" if row["choice"] == "withdrawn" else "vote"
        self._event(row["id"], rater, kind, row["task_id"], row["at"], payload)
        new = row | {"seq": self.seq, "rater": rater, "at": self._moment(row["at"])}
        self.waiting["votes"].append(new | {"aspects": _compact(aspects)})

    def _insert_served(self) -> None:
        """Read back from the events: served is a view of them."""
        events = self.meta.tables["events"]
        rows = self.connection.execute(
            sa.select(events).where(events.c.kind == "served").order_by(events.c.seq)
        ).mappings()
        self._insert(
            "served",
            [
                {
                    "task_id": row["task_id"],
                    "rater": row["rater"],
                    "shown_first": json.loads(row["payload"])["side"],
                    "at": self._moment(_EPOCH + timedelta(microseconds=row["at"])),
                    "lane": 1,
                    "token": row["id"],
                }
                for row in rows
            ],
        )

    def _finish(self) -> None:
        start = {f"at{lane}_{part}": value for lane in "012" for part, value in _START}
        self._insert(
            "raters",
            [
                {"rater": rater, "n": n, "head": head, "n_served": n_served, "n_votes": n_votes}
                | {"n_signed": 0, "epoch": 0, **start}
                for rater, (n, head, n_served, n_votes) in sorted(self.chains.items())
            ],
        )
        facts = {"salt": secrets.token_hex(16), "order_epoch": "0", "chain_rule": "1"}
        self._insert("meta", [{"key": key, "value": value} for key, value in facts.items()])
        if self.connection.dialect.name != "sqlite" and self.seq:
            self.connection.execute(
                sa.text("SELECT setval(pg_get_serial_sequence('events', 'seq'), :last)"),
                {"last": self.seq},
            )


_START = (("p", -1), ("id", ""))
