"""Webhooks: who is told of what, and what still has to be sent.

Rows of ``outbox`` are written by chain.append in the transaction of their event, so that none is
lost and none is sent of something that did not happen. Each is sent at least once: a receiver
that answered and whose answer was lost gets it again, under the same id.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from prefkit.store.database import Database
from prefkit.store.tables import hooks, outbox

State = Literal["waiting", "sent", "dead"]
KINDS = ("vote", "undo", "flag", "guidelines_set", "gold", "erased")  # what a hook may ask for
MOST_TRIES = 12
_CLAIM = timedelta(seconds=60)
_FIRST_WAIT = timedelta(seconds=10)
_LONGEST_WAIT = timedelta(hours=6)
_KEPT = timedelta(days=7)
_SAID = 200  # characters kept of why a delivery failed


@dataclass(frozen=True, slots=True)
class Hook:
    """Where to send what. The secret is told once, when the hook is made."""

    id: str
    url: str
    kinds: tuple[str, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one hook. seq: its id, the same at each try."""

    seq: int
    url: str
    secret: str
    body: str
    tries: int


class Outbox:
    """The hooks of a store and their deliveries."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add_hook(self, url: str, kinds: Iterable[str], now: datetime) -> tuple[Hook, str]:
        """A new hook, and the secret its deliveries are signed with."""
        wanted = set(kinds)
        hook = Hook(secrets.token_hex(6), url, tuple(k for k in KINDS if k in wanted), now)
        secret = secrets.token_hex(32)
        facts = {"id": hook.id, "url": url, "kinds": ",".join(hook.kinds), "at": now}
        row = {**facts, "secret": secret, "active": True}
        self._db.write(lambda connection: connection.execute(sa.insert(hooks), row))
        return hook, secret

    def hooks(self) -> list[Hook]:
        """Every hook that is in force, the oldest first."""
        query = sa.select(hooks).where(hooks.c.active).order_by(hooks.c.at, hooks.c.id)
        with self._db.reading() as connection:
            return [
                Hook(row.id, row.url, tuple(row.kinds.split(",")), row.at)
                for row in connection.execute(query)
            ]

    def end_hook(self, hook_id: str) -> bool:
        """Send nothing more to a hook, not even what waits; whether there was such a hook."""

        def work(connection: sa.Connection) -> bool:
            active = sa.update(hooks).where(hooks.c.id == hook_id, hooks.c.active)
            # The secret has done its work.
            ended = connection.execute(active.values(active=False, secret="")).rowcount
            waiting = (outbox.c.hook_id == hook_id) & (outbox.c.state == "waiting")
            connection.execute(sa.delete(outbox).where(waiting))
            return ended == 1

        return self._db.write(work)

    def claim(self, now: datetime, most: int = 20) -> list[Delivery]:
        """What is due, held for this caller for a minute; another process claims other rows."""
        due = (
            sa.select(outbox.c.seq, outbox.c.body, outbox.c.tries, hooks.c.url, hooks.c.secret)
            .join(hooks, hooks.c.id == outbox.c.hook_id)
            .where(
                outbox.c.state == "waiting",
                hooks.c.active,  # a vote in flight while its hook is ended leaves a row
                outbox.c.next_at <= now,
                outbox.c.claimed_until.is_(None) | (outbox.c.claimed_until <= now),
            )
            .order_by(outbox.c.next_at, outbox.c.seq)
            .limit(most)
        )
        with self._db.reading() as connection:  # most of the time there is nothing, and no lock
            if connection.execute(due.limit(1)).first() is None:
                return []

        def work(connection: sa.Connection) -> list[Delivery]:
            rows = connection.execute(due.with_for_update(of=outbox, skip_locked=True)).all()
            taken = outbox.c.seq.in_([row.seq for row in rows])
            connection.execute(sa.update(outbox).where(taken).values(claimed_until=now + _CLAIM))
            return [Delivery(r.seq, r.url, r.secret, r.body, r.tries) for r in rows]

        return self._db.write(work)

    def settle(self, delivery: Delivery, now: datetime, fault: str | None) -> None:
        """Note that a delivery arrived (no fault), or when it is tried again, if ever."""
        tries = delivery.tries + 1
        values: dict[str, Any] = {
            "tries": tries,
            "claimed_until": None,
            "said": fault and fault[:_SAID],
        }
        if fault is None:
            values["state"] = "sent"
        elif tries >= MOST_TRIES:
            values["state"] = "dead"
        else:
            values["next_at"] = now + min(_FIRST_WAIT * 2 ** (tries - 1), _LONGEST_WAIT)

        def work(connection: sa.Connection) -> None:
            connection.execute(sa.update(outbox).where(outbox.c.seq == delivery.seq).values(values))
            old = (outbox.c.state == "sent") & (outbox.c.next_at < now - _KEPT)
            connection.execute(sa.delete(outbox).where(old))

        self._db.write(work)

    def deliveries(self, state: State, most: int = 100) -> list[dict[str, Any]]:
        """The newest deliveries in ``state``: seq, hook_id, event_seq, tries, next_at, said."""
        names = ("seq", "hook_id", "event_seq", "tries", "next_at", "said")
        query = (
            sa.select(*(outbox.c[name] for name in names))
            .where(outbox.c.state == state)
            .order_by(outbox.c.seq.desc())
            .limit(most)
        )
        with self._db.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]
