"""A store of the first version comes up with the same votes, chained, and without names."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
import tampering
from store_cases import pair, pairs

from prefkit.core.errors import StoreError
from prefkit.core.records import Vote
from prefkit.formats.schema import to_row
from prefkit.store import VoteStore
from prefkit.store.database import Database
from prefkit.store.migrate import MIGRATIONS, bring_up_to_date

NAME = "Wilhelmina"
MACHINE = "rule:format"
AT = datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)
GIVEN = [pair("nul \x00 and \ud800"), *pairs(5)]
OLD_STANDING = (
    "INSERT INTO standing (task_id, rater, vote_id, choice, counted) "
    "VALUES (:task_id, :rater, :id, :choice, :counted)"
)


def _old_vote(number, index, rater=NAME, choice="a", **values):
    row = dict.fromkeys(
        ["strength", "p_a", "confidence", "rationale", "edit", "shown_first", "active_ms"]
    )
    row |= {"guideline_version": None, "replaces": None}
    row |= {
        "id": f"vote-{number}",
        "task_id": GIVEN[index].id,
        "comparison_id": GIVEN[index].id,
        "rater": rater,
        "rater_kind": "rule" if rater == MACHINE else "human",
        "choice": choice,
        "at": AT + timedelta(microseconds=number),
        "aspects": "{}",
        "late": False,
    }
    return row | values


# Kept in the order of the file: a revision, an undo, a late vote, a skip, words, a machine.
VOTES = [
    _old_vote(0, 0, rationale="so \ufffd it is ✓", edit="", aspects='{"style": "é"}'),
    _old_vote(1, 1, "lee", "b", strength=3, confidence=0.1, active_ms=1234, shown_first="b"),
    _old_vote(2, 0, choice="tie", strength=0, replaces="vote-0", guideline_version="abc"),
    _old_vote(3, 0, MACHINE, "b", p_a=0.1 + 0.2),
    _old_vote(4, 1, choice="a", late=True),
    _old_vote(5, 2, "lee", "skip"),
    _old_vote(6, 3, "lee", "invalid"),
    _old_vote(7, 3, "lee", "withdrawn", replaces="vote-6"),
]
STANDS = [(VOTES[i], counted) for i, counted in [(1, 1), (2, 1), (3, 1), (4, 0), (5, 0)]]
SERVED = [(NAME, 0, "b"), (NAME, 1, "a"), ("lee", 1, "b"), ("only looked", 4, "a")]


def _old_store(place, tmp_path):
    """A store as the first version wrote it."""
    first = tmp_path / "first"
    if not first.exists():
        shutil.copytree(MIGRATIONS, first, ignore=shutil.ignore_patterns("0002*", "__pycache__"))
    database = Database(place)
    bring_up_to_date(database, None, first)
    database.close()
    address = str(place)
    engine = sa.create_engine(address if "://" in address else f"sqlite:///{address}")
    old = sa.MetaData()
    with engine.begin() as connection:
        old.reflect(connection)
        tables = old.tables
        naive = engine.dialect.name == "sqlite"

        def insert(name, rows):
            for row in rows:
                if naive and "at" in row:
                    row = row | {"at": row["at"].replace(tzinfo=None)}
                connection.execute(sa.insert(tables[name]), row)

        documents = [
            {"id": c.id, "origin": c.origin}
            | {name: json.dumps(to_row(c)[name], sort_keys=True) for name in ("prompt", "a", "b")}
            for c in GIVEN
        ]
        insert("comparisons", documents)
        done = {GIVEN[0].id: 2, GIVEN[1].id: 1}
        insert("tasks", [
            {"id": c.id, "comparison_id": c.id, "kind": "label", "k": 1, "shuffle": number,
             "n_done": done.get(c.id, 0)}
            for number, c in enumerate(GIVEN)
        ])  # fmt: skip
        insert("votes", VOTES)
        for row, counted in STANDS:
            connection.execute(sa.text(OLD_STANDING), {**row, "counted": bool(counted)})
        insert("served", [
            {"task_id": GIVEN[index].id, "rater": rater, "shown_first": side, "at": AT}
            for rater, index, side in SERVED
        ])  # fmt: skip
    engine.dispose()


@pytest.fixture
def old(place, tmp_path):
    _old_store(place, tmp_path)
    return place


def test_the_votes_of_the_first_version_are_all_there(old, tmp_path):
    with VoteStore.open(old, home=tmp_path) as store:
        names = store.rater_names()
        assert store.comparisons() == GIVEN
        expected = [
            Vote(**row | {"aspects": json.loads(row["aspects"])})  # each as it was
            for row in VOTES
        ]
        assert [
            (v.id, names.get(v.rater, v.rater), v.rater_kind, v.choice, v.at, v.strength, v.p_a,
             v.confidence, v.aspects, v.rationale, v.edit, v.shown_first, v.active_ms,
             v.guideline_version, v.late, v.replaces, v.task_id)
            for v in store.votes()
        ] == [
            (v.id, v.rater, v.rater_kind, v.choice, v.at, v.strength, v.p_a, v.confidence,
             v.aspects, v.rationale, v.edit, v.shown_first, v.active_ms, v.guideline_version,
             v.late, v.replaces, v.task_id)
            for v in expected
        ]  # fmt: skip


def test_what_was_migrated_is_sound_and_goes_on(old, tmp_path):
    with VoteStore.open(old, home=tmp_path) as store:
        assert store.revision() == "0002"
        assert store.verify() == []
        assert store.replay() == []
        of_name = {name: rater for rater, name in store.rater_names().items()}
        assert sorted(of_name) == [NAME, "lee", "only looked"]
        assert store.rater_id(NAME) == of_name[NAME]
        leases, looked = store.leases(), of_name["only looked"]
        token = leases.token_of(looked, GIVEN[4].id)
        assert leases.seen(looked, token).shown_first == "a"
        counts = store.counts()
        assert (counts.votes, counts.standing, counts.done) == (8, 5, 2)
        assert store.undo(of_name[NAME], "new-undo").replaces == "vote-4"
        assert store.verify() == []


def test_after_the_migration_names_are_in_users_alone(old, tmp_path):
    with VoteStore.open(old, home=tmp_path):
        pass
    for table in ("events", "votes", "standing", "served", "raters", "texts"):
        found = tampering.rows(old, f"SELECT * FROM {table}")
        assert found, table
        assert NAME not in repr(found), table
    raters = {row["rater"] for row in tampering.rows(old, "SELECT rater FROM votes")}
    assert MACHINE in raters


def test_the_copy_made_before_is_the_old_store(old, tmp_path):
    with VoteStore.open(old, home=tmp_path) as store:
        backup = store.migration_backup
        votes = [v.id for v in store.votes()]
    assert backup is not None
    assert backup.name.endswith(".before-0002.bak")
    stored = tampering.rows(backup, "SELECT * FROM votes ORDER BY seq")
    assert [row["id"] for row in stored] == votes
    assert {row["rater"] for row in stored} == {NAME, "lee", MACHINE}
    assert tampering.rows(backup, "SELECT version_num FROM alembic_version") == [
        {"version_num": "0001"}
    ]
    # and it is a store that migrates itself
    again = tmp_path / "again.db"
    shutil.copy(backup, again)
    with VoteStore.open(again) as store:
        assert [v.id for v in store.votes()] == votes
        assert store.verify() == []


def test_a_store_whose_views_do_not_follow_is_left_as_it_was(old, tmp_path):
    tampering_sql = "UPDATE tasks SET n_done = 7"
    address = str(old)
    engine = sa.create_engine(address if "://" in address else f"sqlite:///{address}")
    with engine.begin() as connection:
        connection.exec_driver_sql(tampering_sql)
    with pytest.raises(StoreError, match="7 votes noted") as caught:
        VoteStore.open(old, home=tmp_path)
    assert "the store is as it was" in (caught.value.hint or "")
    with engine.connect() as connection:
        version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        n_votes = connection.exec_driver_sql("SELECT count(*) FROM votes").scalar()
    engine.dispose()
    assert (version, n_votes) == ("0001", 8)


@pytest.mark.postgres
def test_a_postgresql_store_is_not_migrated_without_a_place_for_the_copy(address, tmp_path):
    _old_store(address, tmp_path)
    with pytest.raises(StoreError, match="no folder for the copy") as caught:
        VoteStore.open(address)
    assert caught.value.hint == "prefkit store migrate WORKSPACE"


def test_a_migration_that_is_killed_leaves_the_old_store(tmp_path):
    path = tmp_path / "votes.db"
    _old_store(path, tmp_path)
    code = (
        "import os, signal, sys\n"
        "from prefkit.store.migrations import moving_0002\n"
        "def killed(self):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "moving_0002.Move._finish = killed\n"
        "from prefkit.store import VoteStore\n"
        "VoteStore.open(sys.argv[1])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    with VoteStore.open(path) as store:
        assert len(store.votes()) == 8
        assert store.verify() == []


@pytest.mark.slow
def test_a_hundred_thousand_votes_are_migrated_in_half_a_minute(tmp_path):
    path = tmp_path / "votes.db"
    _old_store(path, tmp_path)
    columns = ", ".join(VOTES[0])
    places = ", ".join(f":{name}" for name in VOTES[0])
    engine = sa.create_engine(f"sqlite:///{path}")
    rows = [
        _old_vote(number, 5, f"machine-{number % 9}", rater_kind="judge", replaces=None)
        | {"at": str(AT.replace(tzinfo=None))}
        for number in range(100, 100_100)
    ]
    with engine.begin() as connection:
        connection.execute(sa.text(f"INSERT INTO votes ({columns}) VALUES ({places})"), rows)
        last = {f"machine-{number % 9}": row for number, row in zip(range(100, 100_100), rows,
                                                                   strict=True)}  # fmt: skip
        for row in last.values():
            connection.execute(sa.text(OLD_STANDING), {**row, "counted": True})
        connection.execute(
            sa.text("UPDATE tasks SET n_done = 9 WHERE id = :id"), {"id": GIVEN[5].id}
        )
    engine.dispose()
    started = time.process_time()  # other work of the machine does not count
    with VoteStore.open(path) as store:
        assert store.counts().votes == 100_008
    assert time.process_time() - started < 30
