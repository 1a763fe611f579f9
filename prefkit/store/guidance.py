"""What raters are told: every text that was ever in force, and who has read which.

Each text is kept under its version, so that a vote's ``guideline_version`` can be looked up when
the text has long been another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prefkit.store import chain
from prefkit.store.chain import SYSTEM, NewEvent
from prefkit.store.database import insert_new
from prefkit.store.tables import events, guidelines, storable

_IN_FORCE = (
    sa.select(events.c.payload)
    .where(events.c.rater == SYSTEM, events.c.kind == "guidelines_set")
    .order_by(events.c.n.desc())
    .limit(1)
)
_KNOWN = sa.select(events.c.rater, events.c.kind).where(events.c.id == sa.bindparam("event_id"))


@dataclass(frozen=True, slots=True)
class InForce:
    """What raters are told. base: the version of the settings' own text, where examples were added
    to it since; else the version itself."""

    version: str
    base: str
    text: str


def set_guidelines(
    connection: sa.Connection,
    version: str,
    text: str,
    now: datetime,
    more: Mapping[str, Any] | None = None,
) -> bool:
    """Let ``text`` be what raters are told from now on; whether it was another before.

    more: for the event; ``base`` where the text is another with examples added.
    """
    chain.lock_raters(connection, [SYSTEM])
    if version == in_force(connection):
        return False
    row = {"version": version, "text": storable(text), "at": now}
    connection.execute(insert_new(connection, guidelines), row)
    payload = {**(more or {}), "version": version}
    chain.note(connection, "guidelines_set", payload, now)
    return True


def in_force(connection: sa.Connection) -> str | None:
    """The version that was set last; None before the first."""
    payload = connection.scalar(_IN_FORCE)
    return None if payload is None else str(json.loads(payload)["version"])


def current(connection: sa.Connection) -> InForce | None:
    """What raters are told now; None before the first."""
    payload = connection.scalar(_IN_FORCE)
    if payload is None:
        return None
    said = json.loads(payload)
    version = str(said["version"])
    return InForce(version, str(said.get("base", version)), text_of(connection, version) or "")


def text_of(connection: sa.Connection, version: str) -> str | None:
    """The text of a version; None where it was never set in this store."""
    return connection.scalar(sa.select(guidelines.c.text).where(guidelines.c.version == version))


def mark_read(
    connection: sa.Connection, rater: str, event_id: str, version: str, now: datetime
) -> bool:
    """Note that ``rater`` was shown a version; whether the event is new (its id counts once)."""
    rows = chain.lock_raters(connection, [rater])
    if connection.execute(_KNOWN, {"event_id": event_id}).first() is not None:
        return False
    event = NewEvent(event_id, rater, "guidelines", None, now, {"version": version})
    chain.append(connection, rows, [event])
    chain.save(connection, rows.values())
    return True
