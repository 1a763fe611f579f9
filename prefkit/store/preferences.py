"""How a person wants the pages: kept beside their name, no event of any chain, gone with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    query = sa.select(users.c.locale, users.c.prefs).where(users.c.id == user_id)
    with database.reading() as connection:
        row = connection.execute(query).first()
    if row is None:
        return Preferences()
    kept: dict[str, Any] = json.loads(row.prefs) if row.prefs else {}
    return Preferences(row.locale, kept.get("theme"), kept.get("keys", {}))


def write_preferences(database: Database, user_id: str, chosen: Preferences) -> None:
    """Keep what this person chose, in the place of what they chose before."""
    prefs = json.dumps({"theme": chosen.theme, "keys": dict(chosen.keys)}, sort_keys=True)
    change = sa.update(users).where(users.c.id == user_id, users.c.erased_at.is_(None))
    database.write(
        lambda connection: connection.execute(change.values(locale=chosen.locale, prefs=prefs))
    )
