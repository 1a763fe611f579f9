"""One connection policy for SQLite and PostgreSQL, and the store's faults in the user's words.

SQLite: WAL, synchronous=FULL (an acknowledged vote survives a power cut), and BEGIN IMMEDIATE
for every transaction that writes. A deferred BEGIN that reads and then writes ends in "database
is locked" at once under load, whatever the busy timeout.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from prefkit.core.errors import EnvironmentFault, PrefkitError, StoreError, require
from prefkit.store.quick import Found, Quick
from prefkit.store.writer import GroupWriter

BUSY_SECONDS = 30
SHOWN = 120  # characters of a driver's message, which may quote a whole document
_WRITES = "prefkit_writes"
_CHUNK = 500  # names in one IN (...)
_ATTEMPTS = 6
_AT_ONCE = 16  # transactions of one process on PostgreSQL
# Another transaction was in the way, and the same work may succeed: serialization failure,
# deadlock, or the same id written by both (then the second finds it there).
_IN_THE_WAY = {"40001", "40P01"}
_AGAIN = _IN_THE_WAY | {"23505"}
T = TypeVar("T")


class Database:
    """An engine with its name for messages and, for SQLite, its file.

    name never holds a password. file is None for PostgreSQL.
    """

    def __init__(self, path_or_url: str | Path) -> None:
        url = _url(path_or_url)
        self.name = url.render_as_string(hide_password=True)
        self.file: Path | None = None
        self._group: GroupWriter | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._starting = Lock()
        if url.get_backend_name() == "sqlite":
            self.file = Path(url.database or "")
            self.name = str(self.file)
            # Enough for every thread of the app: its event loop reads too, and must not wait.
            self.engine = sa.create_engine(
                url, connect_args={"timeout": BUSY_SECONDS}, pool_size=_AT_ONCE, max_overflow=64
            )
            event.listen(self.engine, "connect", _on_sqlite_connect)
            event.listen(self.engine, "begin", _on_sqlite_begin)
            turns = self.file.with_name(f"{self.file.name}-writers")
            self._group = GroupWriter(self.writing, turns, BUSY_SECONDS)
        else:
            self.engine = sa.create_engine(
                url, pool_pre_ping=True, pool_size=_AT_ONCE, max_overflow=_AT_ONCE
            )

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is one file."""
        return self.file is not None

    @contextmanager
    def reading(self) -> Generator[sa.Connection]:
        """A transaction that sees one moment and writes nothing."""
        with self.faults(), self.engine.connect() as connection, connection.begin():
            yield connection

    def look(self, question: Quick, **values: Any) -> Found:
        """What one statement finds, without a transaction around it."""
        with self.faults():
            connection = self.engine.raw_connection()
            driver: Any = connection.driver_connection
            try:
                if not self.is_sqlite:
                    driver.autocommit = True  # BEGIN and ROLLBACK are two ways there and back
                return question.run(self.engine.dialect, connection, values)
            finally:
                if not self.is_sqlite and not driver.closed:
                    driver.autocommit = False
                connection.close()

    @contextmanager
    def snapshot(self) -> Generator[sa.Connection]:
        """As ``reading``, and all statements see the same moment on PostgreSQL too."""
        with self.faults(), self.engine.connect() as connection:
            if not self.is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Generator[sa.Connection]:
        """A transaction that holds the write lock from its start (SQLite)."""
        with self.faults(), self.engine.connect() as connection:
            connection = connection.execution_options(**{_WRITES: True})
            with connection.begin():
                yield connection

    def submit(self, work: Callable[[sa.Connection], T]) -> Future[T]:
        """What ``work`` returns, once all it wrote is on disk; or what it raised.

        Many works share a commit on SQLite (store/writer.py). On PostgreSQL each has its own, and
        is done again where another transaction was in its way. So a work does nothing but talk to
        its connection, briefly, and submits no other.
        """

        def guarded(connection: sa.Connection) -> T:
            with self.faults():
                return work(connection)

        if self._group is not None:
            return self._group.submit(guarded)
        with self._starting:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="votes")
            return self._threads.submit(self._attempt, work)

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """``submit``, waited for."""
        return self._attempt(work) if self._group is None else self.submit(work).result()

    def _attempt(self, work: Callable[[sa.Connection], T]) -> T:
        attempt = 1
        while True:
            try:
                with self.writing() as connection:
                    return work(connection)
            except DBAPIError as error:
                state = _sqlstate(error)
                if state not in _AGAIN or (attempt == _ATTEMPTS and state not in _IN_THE_WAY):
                    raise
                if attempt == _ATTEMPTS:
                    raise StoreError(
                        f"{self.name}: other writers were in the way {attempt} times",
                        hint="try again",
                    ) from None
            time.sleep(secrets.randbelow(20) * attempt / 1000)
            attempt += 1

    @contextmanager
    def faults(self) -> Generator[None]:
        """Within: a driver's error that a user can mend becomes a PrefkitError."""
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            mendable = _mendable(error, self.name)
            if mendable is None:
                raise
            raise mendable from None

    def check_durable(self) -> None:
        """Raise StoreError for a server that says a vote is written before it is on disk."""
        if self.is_sqlite:
            return
        with self.reading() as connection:
            if connection.scalar(sa.text("SHOW synchronous_commit")) == "off":
                raise StoreError(
                    f"{self.name}: synchronous_commit is off, so a crash could lose votes that "
                    "were shown as saved",
                    hint="ALTER DATABASE NAME SET synchronous_commit TO on",
                )

    def wipe(self) -> bool | None:
        """Write the SQLite file anew, without the bytes of rows that were deleted.

        Whether all old bytes are gone: False where another process had the file open. None for
        PostgreSQL, which reuses the space in its own time.
        """
        if self.file is None:
            return None
        with self.faults():
            connection = sqlite3.connect(self.file, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                connection.execute("VACUUM")
                busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                return False
            finally:
                connection.close()
        return not busy

    def close(self) -> None:
        """Give every connection back; the last one folds SQLite's log into the file."""
        if self._group is not None:
            self._group.close()
        while self._threads is not None:  # who is answered may submit again
            with self._starting:
                threads, self._threads = self._threads, None
            threads.shutdown()
        self.engine.dispose()


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """``items`` in lists short enough for one statement."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == _CHUNK:
            yield batch
            batch = []
    if batch:
        yield batch


def insert_new(connection: sa.Connection, table: sa.Table) -> Any:
    """INSERT that leaves rows alone whose key is there."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(table).on_conflict_do_nothing()


def _url(path_or_url: str | Path) -> sa.URL:
    if isinstance(path_or_url, Path) or "://" not in path_or_url:
        return sa.URL.create("sqlite", database=str(Path(path_or_url).expanduser().absolute()))
    try:
        url = sa.make_url(path_or_url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise StoreError(
            "the store's address is not a database URL",
            hint="a file path, or postgresql+psycopg://USER@HOST/DATABASE",
        ) from None
    if url.get_backend_name() == "postgresql":
        require("psycopg", "postgres")
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and url.database:
        return url
    raise StoreError(
        f"the store's address starts with {url.drivername}://, which is not supported",
        hint="a file path, or postgresql+psycopg://USER@HOST/DATABASE",
    )


def _on_sqlite_connect(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # BEGIN is ours, see _on_sqlite_begin
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _on_sqlite_begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _mendable(error: Exception, name: str) -> PrefkitError | None:
    """The fault that a user can mend behind a driver's error, or None."""
    text = str(getattr(error, "orig", None) or error).strip()
    low = text.lower()
    if "not a database" in low:
        return StoreError(
            f"{name}: not a prefkit store (not an SQLite file)", hint="check the path"
        )
    if "malformed" in low or "disk i/o error" in low or "could not decode" in low:
        return StoreError(
            f"{name}: the store is damaged: {text.splitlines()[0][:SHOWN]}",
            hint="put a backup in its place (prefkit store backup makes them)",
        )
    if "is full" in low or "no space left" in low:
        return EnvironmentFault(
            f"{name}: the disk is full", hint="free some space; saved votes are kept"
        )
    if "database is locked" in low:
        return StoreError(
            f"{name}: another process has held the store for {BUSY_SECONDS} s",
            hint="end it, or wait and try again",
        )
    if "readonly" in low or "unable to open" in low:
        return EnvironmentFault(
            f"{name}: cannot be opened for writing", hint="check the folder and its permissions"
        )
    unreached = "connection" in low or "resolve host" in low
    if unreached and isinstance(error, OperationalError):
        first_line = text.splitlines()[0]
        return StoreError(
            f"{name}: no connection: {first_line}",
            hint="check that the server runs, and the address and password",
        )
    return _mendable_on_server(error, name, text)


def _mendable_on_server(error: Exception, name: str, text: str) -> PrefkitError | None:
    """As ``_mendable``, for what a PostgreSQL server refuses whoever asks."""
    state = _sqlstate(error)
    if state == "42501":
        return StoreError(
            f"{name}: the role of this address may not do that: {text.splitlines()[0][:SHOWN]}",
            hint="let it own the database: ALTER DATABASE NAME OWNER TO ROLE",
        )
    if state == "25006":
        return StoreError(
            f"{name}: this server can only be read (a standby, or default_transaction_read_only)",
            hint="give the address of the server that takes writes",
        )
    return None


def _sqlstate(error: Exception) -> str | None:
    """PostgreSQL's code of a fault; None for one of SQLite."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)
