"""The schema's version: made new, moved up after a backup, or refused where it is newer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from prefkit.core.errors import StoreError
from prefkit.store import replaying
from prefkit.store.copying import copy_file, copy_rows, copy_server
from prefkit.store.database import Database

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK_KEY = 0x70726566  # "pref": one process migrates a PostgreSQL store at a time


def revisions(migrations: Path = MIGRATIONS) -> list[str]:
    """The versions this prefkit knows, oldest first: files are named NNNN_what.py."""
    return sorted(path.name[:4] for path in (migrations / "versions").glob("[0-9]*_*.py"))


def current_revision(connection: sa.Connection) -> str | None:
    """The store's version; None for a database without tables.

    Raises StoreError for a database that holds something else.
    """
    names = sa.inspect(connection).get_table_names()
    if "alembic_version" not in names:
        if names:
            raise StoreError(
                f"the database holds other tables ({', '.join(sorted(names)[:3])}), not a store",
                hint="give the store a file or database of its own",
            )
        return None
    return connection.scalar(sa.text("SELECT version_num FROM alembic_version"))


def bring_up_to_date(
    database: Database, home: Path | None = None, migrations: Path = MIGRATIONS
) -> Path | None:
    """Make or migrate the schema; the backup made before a migration, or None.

    home: the folder that gets the backup of a PostgreSQL store; one of SQLite goes beside it.
    Raises StoreError if the store was written by a newer prefkit, or if after the migration the
    views do not follow from the events: the store is then as it was.
    """
    known = revisions(migrations)
    with database.reading() as connection:
        if _checked_revision(connection, known, database.name) == known[-1]:
            return None
    with database.writing() as connection:
        if not database.is_sqlite:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        # Another process may have been faster: its copy of the older store is not written over.
        found = _checked_revision(connection, known, database.name)
        if found == known[-1]:
            return None
        backup = _back_up(database, home, known[-1], migrations) if found is not None else None
        _upgrade(connection, migrations, "head")
        if found is not None:
            _check_views(connection, database.name, known[-1])
    return backup


def _back_up(database: Database, home: Path | None, to: str, migrations: Path) -> Path:
    if database.file is not None:
        backup = database.file.with_name(f"{database.file.name}.before-{to}.bak")
        with database.faults():
            copy_file(database.file, backup)
        return backup
    if home is None:
        raise StoreError(
            f"{database.name}: an older version's store, and no folder for the copy that is made "
            f"before it is migrated to {to}",
            hint="prefkit store migrate WORKSPACE",
        )
    backup = home / f"votes-postgresql.before-{to}.bak"
    copy_out(database, backup, migrations)
    return backup


def copy_out(database: Database, target: Path, migrations: Path = MIGRATIONS) -> None:
    """Copy a PostgreSQL store, of any known version, into an SQLite file."""

    def make_schema(made: Database, version: str) -> None:
        with made.writing() as connection:
            _upgrade(connection, migrations, version)

    copy_server(database, target, make_schema)


def copy_into(
    source: Database, target: Database, check: Callable[[sa.Connection], list[str]]
) -> None:
    """Copy a store of this version into an empty PostgreSQL database, whole or not at all.

    check: the faults of the copy, looked for before it is kept. Raises StoreError where the
    database is not empty, or the copy is not sound (then the source is not either).
    """
    with source.snapshot() as rows_from, target.writing() as rows_to:
        rows_to.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        if current_revision(rows_to) is not None:
            raise StoreError(
                f"{target.name}: holds a vote store already",
                hint="give the copy an empty database",
            )
        _upgrade(rows_to, MIGRATIONS, "head")
        copy_rows(rows_from, rows_to)
        faults = check(rows_to)
        if faults:
            raise StoreError(
                f"{source.name}: not copied, because it has {len(faults)} faults: "
                f"{'; '.join(faults[:3])}",
                hint="prefkit store verify names them all; replay --write mends views",
            )


def _check_views(connection: sa.Connection, name: str, to: str) -> None:
    differing = replaying.differences(connection, replaying.views_of(connection))
    if differing:
        raise StoreError(
            f"{name}: not migrated to {to}, because {len(differing)} things in it would not "
            f"follow from its votes: {'; '.join(differing[:3])}",
            hint="the store is as it was; the version that wrote it can verify it",
        )


def _checked_revision(connection: sa.Connection, known: list[str], name: str) -> str | None:
    found = current_revision(connection)
    if found is not None and found not in known:
        raise StoreError(
            f"{name}: written by a newer version of prefkit (schema {found}, known up to "
            f"{known[-1]})",
            hint="pip install --upgrade prefkit",
        )
    return found


def _upgrade(connection: sa.Connection, migrations: Path, to: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
    command.upgrade(config, to)
