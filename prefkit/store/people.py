"""Persons: the table that alone holds their names, and how one is erased from the store.

To everything else a person is an opaque id, ``u`` and 15 hexadecimal digits. Machines vote under
names of their own ("rule:format") and are not in this table.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from prefkit.core.errors import StoreError
from prefkit.store import chain
from prefkit.store.chain import SYSTEM
from prefkit.store.database import insert_new
from prefkit.store.tables import sessions, texts, tokens, users


@dataclass(frozen=True, slots=True)
class Erased:
    """What erasing a person removed. id: what their votes go on being known under.

    n_texts: rationales, edits and notes deleted. wiped: whether the old bytes are gone from the
    SQLite file too; False where another process had it open, None for PostgreSQL.
    """

    id: str
    n_texts: int
    wiped: bool | None = None


def new_id() -> str:
    """An opaque rater id."""
    return f"u{secrets.token_hex(8)[:15]}"


def find_or_add(connection: sa.Connection, name: str) -> str:
    """The id of the person ``name``, who is added as a rater without a password if new."""
    of_name = sa.select(users.c.id).where(users.c.name == name)
    found = connection.scalar(of_name)
    if found is None:
        row = {
            "id": new_id(),
            "name": name,
            "role": "rater",
            "disabled": False,
            "epoch": 0,
            "at": datetime.now(UTC),
        }
        connection.execute(insert_new(connection, users), row)
        found = connection.scalar(of_name)
    assert found is not None, "added above, or by another process at the same time"
    return found


def names(connection: sa.Connection) -> dict[str, str]:
    """Rater id → name, of everybody who has one."""
    rows = connection.execute(sa.select(users.c.id, users.c.name).where(users.c.name.is_not(None)))
    return {row.id: row.name for row in rows}


def erase(connection: sa.Connection, name_or_id: str, *, words: bool, now: datetime) -> Erased:
    """Remove a person's name, log-in and, with ``words``, all they wrote; the votes stay.

    Raises StoreError where there is no such person, or two.
    """
    found = connection.execute(
        sa.select(users.c.id).where((users.c.name == name_or_id) | (users.c.id == name_or_id))
    ).all()
    if not found:
        raise StoreError(
            f"{name_or_id!r} is nobody's name or id in this store",
            hint="a person who was erased has no name left",
        )
    if len(found) > 1:
        raise StoreError(
            f"{name_or_id!r} is the id of one person and the name of another",
            hint="erase the first by their name, the second by their id",
        )
    row = found[0]
    # Theirs too: a vote of theirs that is being written brings its words before they go.
    chain.lock_raters(connection, [SYSTEM, row.id])
    for table in (sessions, tokens):
        connection.execute(sa.delete(table).where(table.c.user_id == row.id))
    gone = 0
    if words:
        gone = connection.execute(sa.delete(texts).where(texts.c.rater == row.id)).rowcount
    emptied = dict.fromkeys(("name", "password", "issuer", "subject", "locale", "prefs"))
    connection.execute(
        sa.update(users)
        .where(users.c.id == row.id)
        .values(**emptied, disabled=True, epoch=users.c.epoch + 1, erased_at=now)
    )
    chain.note(connection, "erased", {"of": row.id, "texts": words}, now)
    return Erased(row.id, gone)
