"""Group commit: nobody is answered before the disk, and one that fails hurts no other."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
import threading
from concurrent.futures import wait
from pathlib import Path

import pytest
import sqlalchemy as sa
from store_cases import pairs, vote

from prefkit.store import VoteStore
from prefkit.store.database import Database


@pytest.fixture
def database(tmp_path):
    opened = Database(tmp_path / "some.db")
    opened.write(lambda c: c.exec_driver_sql("CREATE TABLE t (x INTEGER PRIMARY KEY)"))
    yield opened
    opened.close()


def insert(value):
    return lambda connection: (
        connection.execute(sa.text("INSERT INTO t VALUES (:x)"), {"x": value}).rowcount
    )


def values(database):
    with database.reading() as connection:
        return [row.x for row in connection.execute(sa.text("SELECT x FROM t ORDER BY x"))]


def held(database):
    """Keeps the writer busy until it is set, so that what follows is written together."""
    started, go = threading.Event(), threading.Event()

    def work(connection):
        started.set()
        go.wait(30)

    future = database.submit(work)
    started.wait(30)
    return go, future


def test_a_work_that_fails_hurts_no_other(database):
    go, first = held(database)
    futures = [database.submit(insert(x)) for x in (1, 2, 2, 3)]

    def half(connection):
        insert(9)(connection)
        raise RuntimeError("half way")

    failing = database.submit(half)
    last = database.submit(insert(4))
    go.set()
    wait([first, failing, last, *futures], timeout=30)
    assert [f.exception() is None for f in futures] == [True, True, False, True]
    assert isinstance(failing.exception(), RuntimeError)
    assert last.result() == 1
    assert values(database) == [1, 2, 3, 4]


def test_what_waits_is_written_in_one_commit(database, monkeypatch):
    commits = []
    sa.event.listen(database.engine, "commit", lambda _: commits.append(1))
    go, first = held(database)
    futures = [database.submit(insert(x)) for x in range(50)]
    go.set()
    wait([first, *futures], timeout=30)
    assert len(values(database)) == 50
    assert len(commits) <= 3  # the one held, the fifty, and the reading above


def test_nobody_is_answered_when_the_commit_fails(database):
    def broken(_):
        raise OSError("the disk is gone")

    go, first = held(database)
    futures = [database.submit(insert(x)) for x in range(3)]
    sa.event.listen(database.engine, "commit", broken)
    go.set()
    wait([first, *futures], timeout=30)
    sa.event.remove(database.engine, "commit", broken)
    assert [type(f.exception()) for f in futures] == [OSError] * 3
    assert values(database) == []
    assert database.write(insert(7)) == 1


def test_one_that_was_called_off_in_time_is_not_done(database):
    go, first = held(database)
    off, on = database.submit(insert(1)), database.submit(insert(2))
    assert off.cancel()
    go.set()
    wait([first, on], timeout=30)
    assert values(database) == [2]


def test_closing_writes_all_that_was_submitted(tmp_path, database):
    futures = [database.submit(insert(x)) for x in range(200)]
    database.close()
    assert all(f.done() for f in futures)
    assert len(values(database)) == 200


FILLER = """
import os, resource, signal, sys, threading
sys.path.insert(0, sys.argv[2])
from store_cases import pairs, vote
from prefkit.core.errors import PrefkitError
from prefkit.store import VoteStore

store = VoteStore.open(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
given = pairs(3000)

def label(part):
    for comparison in given[part::8]:
        try:
            said = store.vote(vote(comparison, f"rater-{part}", "tie")).id
        except PrefkitError as error:
            os.write(1, f"told: {error.message}\\n".encode())
            return
        os.write(1, f"{said}\\n".encode())  # one write a line: threads do not mix

threads = [threading.Thread(target=label, args=(part,)) for part in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_a_full_disk_answers_no_vote_that_it_did_not_keep(tmp_path):
    path = tmp_path / "votes.db"
    with VoteStore.open(path) as store:
        store.add(pairs(3000))
    tests = str(Path(__file__).parents[1])
    words = [sys.executable, "-c", FILLER, str(path), tests]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    said = ended.stdout.splitlines()
    told = [line for line in said if line.startswith("told:")]
    assert len(told) == 8, ended.stderr
    answered = {line for line in said if not line.startswith("told:")}
    assert answered
    with VoteStore.open(path) as store:
        assert answered <= {v.id for v in store.votes()}
        assert store.verify() == []


def test_two_processes_take_turns_and_lose_nothing(tmp_path):
    path = tmp_path / "votes.db"
    with VoteStore.open(path) as store:
        store.add(pairs(100), k=9)
    code = (
        "import sys; sys.path.insert(0, sys.argv[3])\n"
        "from store_cases import pairs, vote\n"
        "from prefkit.store import VoteStore\n"
        "store = VoteStore.open(sys.argv[1])\n"
        "for c in pairs(100): store.vote(vote(c, sys.argv[2]))\n"
        "store.close()\n"
    )
    tests = str(Path(__file__).parents[1])
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(path), rater, tests])
        for rater in ("kim", "lee")
    ]
    assert [process.wait(120) for process in started] == [0, 0]
    with VoteStore.open(path) as store:
        assert len(store.votes()) == 200
        store.vote(vote(pairs(1)[0], "mia"))
        assert store.verify() == []


def test_where_the_file_system_has_no_locks_writing_goes_on(database, monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    assert database.write(insert(1)) == 1
    assert values(database) == [1]
