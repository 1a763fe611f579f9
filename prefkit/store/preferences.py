"""How a person wants the pages: kept beside their name, no event of any chain, gone with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from prefkit.store.database import Database
from prefkit.store.tables import users


@dataclass(frozen=True, slots=True)
class Preferences:
    """locale: None for the browser's; theme: None for the system's. keys: action → key."""

    locale: str | None = None
    theme: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict[str, str])


def read_preferences(database: Database, user_id: str) -> Preferences:
    """What this person chose; all left open for one who chose nothing or is not known."""
    with database.reading() as connection:
        return _chosen(connection, user_id, hold=False)


def change_preferences(database: Database, user_id: str, wished: Mapping[str, Any]) -> Preferences:
    """What this person chose, with ``wished`` (fields of Preferences) in the place of what was
    there. Two changes at once leave both: the row is held from its reading to its writing."""

    def work(connection: sa.Connection) -> Preferences:
        chosen = replace(_chosen(connection, user_id, hold=True), **wished)
        prefs = json.dumps({"theme": chosen.theme, "keys": dict(chosen.keys)}, sort_keys=True)
        change = sa.update(users).where(users.c.id == user_id, users.c.erased_at.is_(None))
        connection.execute(change.values(locale=chosen.locale, prefs=prefs))
        return chosen

    return database.write(work)


def _chosen(connection: sa.Connection, user_id: str, *, hold: bool) -> Preferences:
    query = sa.select(users.c.locale, users.c.prefs).where(users.c.id == user_id)
    row = connection.execute(query.with_for_update() if hold else query).first()
    if row is None:
        return Preferences()
    kept: dict[str, Any] = json.loads(row.prefs) if row.prefs else {}
    return Preferences(row.locale, kept.get("theme"), kept.get("keys", {}))
