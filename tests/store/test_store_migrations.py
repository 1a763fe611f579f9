"""The schema's version: an older store is moved up after a backup, a newer one is refused."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from store_cases import pairs, vote

import prefkit.store.migrate as migrate_module
import prefkit.store.votes as votes_module
from prefkit.core.errors import StoreError
from prefkit.store import VoteStore
from prefkit.store.migrate import MIGRATIONS, revisions
from prefkit.store.tables import metadata

NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{down}"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("tasks", sa.Column("added_later", sa.Text))
    {more}
"""


@pytest.fixture
def next_version(tmp_path, monkeypatch):
    """Our migrations with one more after the last, as a later prefkit would have them."""

    def make(more: str = "pass"):
        later = tmp_path / "migrations"
        shutil.copytree(MIGRATIONS, later)
        text = NEXT.format(revision="9999", down=revisions()[-1], more=more)
        (later / "versions" / "9999_later.py").write_text(text)
        monkeypatch.setattr(votes_module, "MIGRATIONS", later)

    return make


@pytest.fixture
def labelled(tmp_path):
    path = tmp_path / "votes.db"
    with VoteStore.open(path) as store:
        given = pairs(3)
        store.add(given)
        store.add_votes([vote(c) for c in given])
        return path, store.votes()


def test_the_migrations_make_exactly_the_tables_that_the_code_knows(tmp_path):
    with VoteStore.open(tmp_path / "votes.db"):
        pass
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'votes.db'}")
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    # Indexes live in the migrations alone.
    assert [d for d in differences if d[0] not in ("remove_index", "add_index")] == []


def test_an_older_store_is_migrated_after_a_backup(labelled, next_version):
    path, votes = labelled
    next_version()
    with VoteStore.open(path) as store:
        assert store.revision() == "9999"
        assert store.votes() == votes
        assert store.verify() == []
        backup = store.migration_backup
    assert backup is not None
    with sqlite3.connect(backup) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [
            (revisions()[-1],)
        ]
        assert connection.execute("SELECT count(*) FROM votes").fetchone() == (3,)


def test_a_migration_that_fails_leaves_the_store_as_it_was(labelled, next_version, monkeypatch):
    path, votes = labelled
    next_version("raise RuntimeError('half way')")
    with pytest.raises(RuntimeError, match="half way"):
        VoteStore.open(path)
    monkeypatch.undo()
    with VoteStore.open(path) as store:
        assert store.revision() == revisions()[-1]
        assert store.votes() == votes


def test_a_store_of_a_newer_version_is_refused_and_untouched(labelled):
    path, _ = labelled
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="written by a newer version of prefkit") as caught:
        VoteStore.open(path)
    assert caught.value.hint == "pip install --upgrade prefkit"
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.bak"))


def test_four_processes_may_make_the_store_at_once(tmp_path):
    path = tmp_path / "votes.db"
    code = f"from prefkit.store import VoteStore; print(VoteStore.open({str(path)!r}).revision())"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [process.communicate(timeout=60)[0].strip() for process in started]
    assert said == [revisions()[-1]] * 4


def test_of_two_that_start_at_once_the_copy_made_before_is_of_the_older_store(
    labelled, next_version, monkeypatch
):
    path, votes = labelled
    next_version()
    real, others = migrate_module.copy_file, []

    def slowly(source, target):
        if not others:
            others.append(threading.Thread(target=lambda: VoteStore.open(path).close()))
            others[0].start()
            others[0].join(1)
        real(source, target)

    monkeypatch.setattr(migrate_module, "copy_file", slowly)
    with VoteStore.open(path) as store:
        others[0].join(30)
        assert (store.revision(), store.votes()) == ("9999", votes)
        backup = store.migration_backup
    with sqlite3.connect(backup) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [
            (revisions()[-1],)
        ]
