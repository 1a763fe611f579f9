"""Migration 0002's rows: old votes as events with their chains, and the views of them.

Frozen with its migration: the rule of the hash is written out here, not imported from
store/chain.py, which may change.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

OLD = ("votes", "served", "standing")
_COLUMNS: dict[str, dict[str, Any]] = {
    "votes": dict.fromkeys(
        [
            *("seq", "id", "task_id", "comparison_id", "rater", "rater_kind", "choice"),
            *("strength", "p_a", "confidence", "aspects", "rationale", "edit", "shown_first"),
            *("active_ms", "guideline_version", "replaces"),
        ]
    )
    | {"at": sa.DateTime(timezone=True), "late": sa.Boolean},
    "served": dict.fromkeys(["task_id", "rater", "shown_first"])
    | {"at": sa.DateTime(timezone=True)},
    "standing": dict.fromkeys(["task_id", "rater", "vote_id", "choice"]) | {"counted": sa.Boolean},
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH = 1000
_OPTIONAL = (
    "strength", "p_a", "confidence", "shown_first", "active_ms", "guideline_version", "replaces",
)  # fmt: skip
_START = (("p", -1), ("id", ""))
_Row = dict[str, Any]


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


@dataclass(slots=True)
class _End:
    """The end of a chain, as a row of ``raters`` has it."""

    n: int = 0
    head: str = "0" * 64
    n_served: int = 0
    n_votes: int = 0


class Move:
    """Writes the rows put aside as old_votes, old_served and old_standing into the new tables."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.meta = sa.MetaData()
        names = ("events", "texts", "raters", "votes", "served", "standing", "users", "meta")
        self.meta.reflect(connection, only=names)
        self.old = {name: self._old_table(name) for name in OLD}
        self.waiting: dict[str, list[_Row]] = {name: [] for name in ("events", "votes", "texts")}
        self.ends: dict[str, _End] = {}
        self.seq = 0
        self.ids = self._people()

    def _old_table(self, name: str) -> sa.TableClause:
        return sa.table(
            f"old_{name}", *(sa.column(column, kind) for column, kind in _COLUMNS[name].items())
        )

    def _people(self) -> dict[str, str]:
        """Name → id of everybody under whose name no machine ever voted."""
        names: set[str] = set()
        for name in OLD:
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
        """Write every event and every row that follows from it."""
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

    def _rows(self, table: sa.TableClause, *order: str) -> list[_Row]:
        query = sa.select(table).order_by(*(table.c[name] for name in order))
        return [dict(row) for row in self.connection.execute(query).mappings()]

    def _id(self, rater: str) -> str:
        return self.ids.get(rater, rater)

    def _moment(self, at: datetime) -> datetime:
        at = _utc(at)
        return at.replace(tzinfo=None) if self.connection.dialect.name == "sqlite" else at

    def _insert(self, name: str, rows: list[_Row]) -> None:
        for start in range(0, len(rows), _BATCH):
            table = self.meta.tables[name]
            self.connection.execute(sa.insert(table), rows[start : start + _BATCH])

    def _flush(self) -> None:
        for name, rows in self.waiting.items():
            self._insert(name, rows)
            rows.clear()

    def _event(
        self,
        event_id: str,
        rater: str,
        kind: str,
        task_id: str,
        at: datetime,
        payload: Mapping[str, Any],
    ) -> None:
        end = self.ends.setdefault(rater, _End())
        row: _Row = {
            "id": event_id,
            "rater": rater,
            "n": end.n + 1,
            "kind": kind,
            "task_id": task_id,
            "at": (_utc(at) - _EPOCH) // timedelta(microseconds=1),
            "payload": _compact(payload),
            "prev": end.head,
        }
        names = ("rater", "n", "kind", "at", "id", "task_id", "payload", "prev")
        row["hash"] = _digest(_compact([1, *(row[name] for name in names)]).encode())
        end.n, end.head = row["n"], row["hash"]
        end.n_served += kind == "served"
        end.n_votes += kind == "vote"
        self.seq += 1
        self.waiting["events"].append({"seq": self.seq, **row})

    def _served(self, row: _Row) -> None:
        token = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{row['task_id']}\n{self._id(row['rater'])}"))
        payload = {"side": row["shown_first"], "lane": 1, "kind": "label"}
        self._event(token, self._id(row["rater"]), "served", row["task_id"], row["at"], payload)

    def _vote(self, row: _Row) -> None:
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
                {"rater": rater, "n_signed": 0, "epoch": 0, **dataclasses.asdict(end), **start}
                for rater, end in sorted(self.ends.items())
            ],
        )
        facts = {"salt": secrets.token_hex(16), "order_epoch": "0", "chain_rule": "1"}
        self._insert("meta", [{"key": key, "value": value} for key, value in facts.items()])
        if self.connection.dialect.name != "sqlite" and self.seq:
            self.connection.execute(
                sa.text("SELECT setval(pg_get_serial_sequence('events', 'seq'), :last)"),
                {"last": self.seq},
            )
