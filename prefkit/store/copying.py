"""A whole store copied as of one moment: file to file, or between a server and a file.

Copying row by row needs neither pg_dump nor a version of it that fits the server, and what it
makes is a store that any prefkit opens.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from prefkit.core.files import replacing
from prefkit.store.database import Database

_ROWS = 1000
_VERSION = "alembic_version"
_SEQUENCE = sa.text("SELECT pg_get_serial_sequence(:name, 'seq')")
_GO_ON = sa.text("SELECT setval(:of, :last)")


def copy_file(source: Path, target: Path) -> None:
    """Copy an SQLite store, whole or not at all, while others may write to it."""
    with replacing(target) as temporary:
        reader = sqlite3.connect(source)
        writer = sqlite3.connect(temporary)
        try:
            reader.backup(writer)
        finally:
            writer.close()
            reader.close()


def copy_server(
    source: Database, target: Path, make_schema: Callable[[Database, str], None]
) -> None:
    """Copy a PostgreSQL store into a new SQLite file, whole or not at all.

    make_schema: makes the tables of a version in an empty store.
    """
    with replacing(target) as temporary:
        made = Database(temporary)
        try:
            with source.snapshot() as rows_from:
                version = rows_from.scalar(sa.text(f"SELECT version_num FROM {_VERSION}"))
                make_schema(made, str(version))
                with made.writing() as rows_to:
                    copy_rows(rows_from, rows_to)
            made.close()  # folds the log into the file, which is then renamed
        except BaseException:
            made.close()
            for name in ("-wal", "-shm"):
                Path(f"{temporary}{name}").unlink(missing_ok=True)
            raise


def copy_rows(rows_from: sa.Connection, rows_to: sa.Connection) -> None:
    """Copy every row of every table; both stores have the same version, the second is empty.

    ``meta`` is taken over whole: what the migrations wrote into the new store goes first.
    """
    there, here = sa.MetaData(), sa.MetaData()
    there.reflect(rows_from)
    here.reflect(rows_to)
    rows_to.execute(sa.delete(here.tables["meta"]))
    to_sqlite = rows_to.dialect.name == "sqlite"
    for table in here.sorted_tables:
        if table.name == _VERSION:
            continue
        query = sa.select(there.tables[table.name]).execution_options(yield_per=_ROWS)
        for batch in rows_from.execute(query).mappings().partitions(_ROWS):
            rows_to.execute(sa.insert(table), [_dated(row, naive=to_sqlite) for row in batch])
    if not to_sqlite:
        _count_on(rows_to, here)


def _dated(row: sa.RowMapping, *, naive: bool) -> dict[str, Any]:
    """The row with its times as the other database keeps them: UTC, naive in SQLite."""
    return {
        name: _in_utc(value, naive=naive) if isinstance(value, datetime) else value
        for name, value in row.items()
    }


def _in_utc(at: datetime, *, naive: bool) -> datetime:
    utc = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return utc.replace(tzinfo=None) if naive else utc


def _count_on(connection: sa.Connection, copied: sa.MetaData) -> None:
    """Let PostgreSQL's row numbers go on after the last that was copied."""
    for table in copied.sorted_tables:
        if "seq" not in table.c:
            continue
        sequence = connection.scalar(_SEQUENCE, {"name": table.name})
        last = connection.scalar(sa.select(sa.func.max(table.c.seq)))
        if sequence is not None and last is not None:  # votes take their numbers from events
            connection.execute(_GO_ON, {"of": sequence, "last": last})
