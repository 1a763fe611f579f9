"""Accounts: who may log in and as what, their sessions, and guesses that failed.

Knows no password and no cookie: it is given an argon2id text and opaque ids and keys. Every
question is asked of the database anew, so that a log-out, a new password or a disabled account
holds at once in every process on the store.
"""

from __future__ import annotations

import secrets
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

import sqlalchemy as sa

from prefkit.core.errors import StoreError
from prefkit.store.database import Database, insert_new
from prefkit.store.people import new_id
from prefkit.store.quick import Quick
from prefkit.store.tables import failures, sessions, storable, users

Role = Literal["rater", "reviewer", "lead"]
ROLES: tuple[Role, ...] = get_args(Role)
_LONGEST_LOCK = timedelta(hours=1)
ACCOUNT_COLUMNS = (
    users.c.id,
    users.c.name,
    users.c.role,
    users.c.disabled,
    users.c.password,
    users.c.subject,
    users.c.at,
)
_CREDENTIAL = users.c.password.is_not(None) | users.c.subject.is_not(None)
_OF_SESSION = Quick(
    sa.select(*ACCOUNT_COLUMNS, sessions.c.expires_at)
    .join(users, users.c.id == sessions.c.user_id)
    .where(
        sessions.c.id == sa.bindparam("session"),
        sessions.c.ended.is_(False),
        sessions.c.epoch == users.c.epoch,
        users.c.disabled.is_(False),
        users.c.erased_at.is_(None),
    )
)


@dataclass(frozen=True, slots=True)
class Account:
    """A person of the store. password: argon2id text, None for one who has none to log in with.

    federated: known by an identity provider's subject.
    """

    id: str
    name: str
    role: Role
    disabled: bool
    password: str | None
    federated: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class Limit:
    """How many failures a key may have before it is locked, and after how long they are forgotten.

    The first lock lasts a minute; each failure after it doubles that, up to an hour.
    """

    most: int
    forget: timedelta


def plain_name(name: str) -> str:
    """``name`` as it is stored and looked for: two ways to write a letter are not two people."""
    return storable(unicodedata.normalize("NFC", name)).strip()


class Accounts:
    """The people of a store; safe for several threads and processes at once."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # People

    def configured(self) -> bool:
        """Whether anybody has something to log in with, disabled people among them."""
        with self._db.reading() as connection:
            return connection.scalar(sa.select(users.c.id).where(_CREDENTIAL).limit(1)) is not None

    def everyone(self) -> list[Account]:
        """All who have a name, in the order of their names."""
        query = sa.select(*ACCOUNT_COLUMNS).where(users.c.name.is_not(None)).order_by(users.c.name)
        with self._db.reading() as connection:
            return [account_of(row) for row in connection.execute(query)]

    def by_name(self, name: str) -> Account | None:
        """The person of that name, or None."""
        return self._one(users.c.name == name)

    def by_id(self, user_id: str) -> Account | None:
        """The person of that id, or None; None too for one who was erased."""
        return self._one((users.c.id == user_id) & users.c.name.is_not(None))

    def by_subject(self, issuer: str, subject: str) -> Account | None:
        """The person whom an identity provider knows by ``subject``, or None."""
        return self._one((users.c.issuer == issuer) & (users.c.subject == subject))

    def add(
        self,
        name: str,
        role: Role,
        now: datetime,
        *,
        password: str | None = None,
        issuer: str | None = None,
        subject: str | None = None,
    ) -> Account:
        """Add a person, who keeps the id of a rater of that name who had nothing to log in with.

        Raises StoreError where the name belongs to somebody who can log in already.
        """

        def work(connection: sa.Connection) -> None:
            fresh = {"id": new_id(), "name": name, "disabled": False, "epoch": 0, "at": now}
            connection.execute(insert_new(connection, users), {**fresh, "role": role})
            taken = connection.execute(
                sa.update(users)
                .where(users.c.name == name, ~_CREDENTIAL)
                .values(role=role, password=password, issuer=issuer, subject=subject)
            )
            if taken.rowcount != 1:
                raise StoreError(
                    f"{name!r} is the name of somebody who can log in already",
                    hint="prefkit users passwd gives them a new password",
                )

        self._db.write(work)
        added = self.by_name(name)
        assert added is not None, "written above"
        return added

    def set_password(self, user_id: str, password: str) -> None:
        """Store a new password's text; every session of that person ends."""
        changes = {"password": password, "epoch": users.c.epoch + 1}
        self._change(user_id, changes, end_sessions=True)

    def set_role(self, user_id: str, role: Role) -> None:
        """Another role, from their next request on."""
        self._change(user_id, {"role": role}, end_sessions=False)

    def disable(self, user_id: str, *, disabled: bool = True) -> None:
        """Refuse (or allow again) log-ins, sessions and tokens; sessions that were open end."""
        changes = {"disabled": disabled, "epoch": users.c.epoch + 1}
        self._change(user_id, changes, end_sessions=True)

    def _change(self, user_id: str, changes: dict[str, Any], *, end_sessions: bool) -> None:
        def work(connection: sa.Connection) -> None:
            connection.execute(sa.update(users).where(users.c.id == user_id).values(**changes))
            if end_sessions:
                connection.execute(sa.delete(sessions).where(sessions.c.user_id == user_id))

        self._db.write(work)

    def _one(self, condition: sa.ColumnElement[bool]) -> Account | None:
        with self._db.reading() as connection:
            row = connection.execute(sa.select(*ACCOUNT_COLUMNS).where(condition)).first()
        return None if row is None else account_of(row)

    # Sessions

    def open_session(self, user_id: str, now: datetime, expires_at: datetime) -> str:
        """The id of a new session; those that have expired are forgotten."""
        session = secrets.token_hex(16)

        def work(connection: sa.Connection) -> None:
            connection.execute(sa.delete(sessions).where(sessions.c.expires_at < now))
            epoch = sa.select(users.c.epoch).where(users.c.id == user_id).scalar_subquery()
            row = {"id": session, "user_id": user_id, "at": now, "expires_at": expires_at}
            connection.execute(sa.insert(sessions).values(**row, epoch=epoch, ended=False))

        self._db.write(work)
        return session

    def end_session(self, session: str) -> None:
        """Log out; a session that is not there is no fault."""
        ended = sa.update(sessions).where(sessions.c.id == session).values(ended=True)
        self._db.write(lambda connection: connection.execute(ended))

    def of_session(self, session: str, now: datetime) -> Account | None:
        """Who a session belongs to; None once it ended or expired, the password changed, or the
        account was disabled or erased."""
        row = self._db.look(_OF_SESSION, session=session).first()
        return None if row is None or row.expires_at <= now else account_of(row)

    @property
    def on_file(self) -> bool:
        """Whether the store is a file: a question then takes less time than handing it over."""
        return self._db.is_sqlite

    # Guesses

    def strike(self, limits: dict[str, Limit], now: datetime) -> datetime | None:
        """Count a failure for each key, unless one is locked: then when the last lock ends.

        Call it before the password is looked at: guesses sent at the same moment then count too.
        """

        def work(connection: sa.Connection) -> datetime | None:
            free = failures.c.locked_until.is_(None) | (failures.c.locked_until < now)
            old = failures.c.first_at < now - timedelta(days=2)
            connection.execute(sa.delete(failures).where(old, free))
            new = [{"key": key, "n": 0, "first_at": now, "locked_until": None} for key in limits]
            connection.execute(insert_new(connection, failures), new)
            found = connection.execute(
                sa.select(failures)
                .where(failures.c.key.in_(list(limits)))
                .order_by(failures.c.key)
                .with_for_update()
            ).all()
            locks = [row.locked_until for row in found if row.locked_until is not None]
            if locks and max(locks) > now:
                return max(locks)
            for row in found:
                _count(connection, row, limits[row.key], now)
            return None

        return self._db.write(work)

    def forgive(self, keys: list[str], *, one_of: list[str]) -> None:
        """Forget the failures of ``keys``, and one failure of each of ``one_of``."""

        def work(connection: sa.Connection) -> None:
            connection.execute(sa.delete(failures).where(failures.c.key.in_(keys)))
            connection.execute(
                sa.update(failures)
                .where(failures.c.key.in_(one_of), failures.c.n > 0)
                .values(n=failures.c.n - 1, locked_until=None)
            )

        self._db.write(work)


def _count(connection: sa.Connection, row: Any, limit: Limit, now: datetime) -> None:
    forgotten = row.first_at < now - limit.forget
    n = 1 if forgotten else row.n + 1
    until = None
    if n >= limit.most:
        doublings = min(n - limit.most, 16)
        until = now + min(timedelta(minutes=2**doublings), _LONGEST_LOCK)
    changes = {"n": n, "first_at": now if forgotten else row.first_at, "locked_until": until}
    connection.execute(sa.update(failures).where(failures.c.key == row.key).values(**changes))


def account_of(row: Any) -> Account:
    """The account of a row with ``ACCOUNT_COLUMNS``."""
    return Account(
        id=row.id,
        name=row.name,
        role=row.role,
        disabled=row.disabled,
        password=row.password,
        federated=row.subject is not None,
        at=row.at,
    )
