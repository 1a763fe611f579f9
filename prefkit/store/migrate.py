"""The schema's version: made new, moved up after a backup, or refused where it is newer."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import sqlalchemy as sa

from prefkit.core.errors import StoreError
from prefkit.core.files import replacing
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


def bring_up_to_date(database: Database, migrations: Path = MIGRATIONS) -> Path | None:
    """Make or migrate the schema; the backup made before a migration, or None.

    Raises StoreError if the store was written by a newer prefkit.
    """
    known = revisions(migrations)
    with database.reading() as connection:
        found = _checked_revision(connection, known, database.name)
    if found == known[-1]:
        return None
    backup = None
    if found is not None and database.file is not None:
        backup = database.file.with_name(f"{database.file.name}.before-{known[-1]}.bak")
        with database.faults():
            copy_sqlite(database.file, backup)
    with database.writing() as connection:
        if not database.is_sqlite:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        # Another process may have been faster between the two transactions.
        if _checked_revision(connection, known, database.name) != known[-1]:
            _upgrade(connection, migrations)
    return backup


def _checked_revision(connection: sa.Connection, known: list[str], name: str) -> str | None:
    found = current_revision(connection)
    if found is not None and found not in known:
        raise StoreError(
            f"{name}: written by a newer version of prefkit (schema {found}, known up to "
            f"{known[-1]})",
            hint="pip install --upgrade prefkit",
        )
    return found


def _upgrade(connection: sa.Connection, migrations: Path) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
    command.upgrade(config, "head")


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a store as of one moment, whole or not at all, while others may write to it."""
    with replacing(target) as temporary:
        reader = sqlite3.connect(source)
        writer = sqlite3.connect(temporary)
        try:
            reader.backup(writer)
        finally:
            writer.close()
            reader.close()
