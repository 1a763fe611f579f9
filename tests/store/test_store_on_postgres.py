"""The same store on a real PostgreSQL server, started here and thrown away."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
from collections import Counter
from pathlib import Path

import psycopg
import pytest
from components import require_component
from store_cases import pair, pairs, vote

from prefkit.core.errors import StoreError
from prefkit.store import VoteStore

pytestmark = pytest.mark.postgres


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not found and not on_path:
        require_component("postgresql", "no initdb in /usr/lib/postgresql/*/bin")
    return found[-1].parent if found else Path(str(on_path)).parent


def _unprivileged() -> list[str]:
    """The prefix that runs a command as a user PostgreSQL accepts: root is refused."""
    if os.geteuid() != 0:
        return []
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        require_component("postgresql", "running as root, and there is no user postgres")
    return ["runuser", "-u", "postgres", "--"]


@pytest.fixture(scope="module")
def server():
    """The address of the server's own database."""
    binaries, prefix = _binaries(), _unprivileged()
    folder = tempfile.mkdtemp(prefix="prefkit-pg-")
    if prefix:
        shutil.chown(folder, "postgres")
    data = f"{folder}/data"

    def run(*command: str) -> None:
        subprocess.run(
            [*prefix, *command], check=True, capture_output=True, text=True, cwd=folder, timeout=120
        )

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    try:
        run(str(binaries / "initdb"), "-D", data, "-A", "trust", "-U", "prefkit", "-E", "UTF8")
        options = f"-p {port} -k {folder} -h 127.0.0.1 -c fsync=off"
        run(
            str(binaries / "pg_ctl"),
            "-D",
            data,
            "-w",
            "-l",
            f"{folder}/log",
            "-o",
            options,
            "start",
        )
        try:
            yield f"postgresql://prefkit@127.0.0.1:{port}/postgres"
        finally:
            run(str(binaries / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def address(server):
    """A fresh database's address."""
    name = f"prefkit_{os.urandom(4).hex()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.replace("/postgres", f"/{name}").replace("postgresql://", "postgresql+psycopg://")


def test_comparisons_and_votes_come_back_as_they_were(address):
    given = [pair("nul \x00 and \ud800"), *pairs(3)]
    with VoteStore.open(address) as store:
        store.add(given, k=2)
        sent = [vote(c, "kim", "tie", strength=0, active_ms=1234) for c in given]
        assert store.add_votes(sent) == 4
        assert store.add_votes(sent) == 0
        withdrawn = store.undo("kim", "undo-1")
        assert withdrawn is not None
        assert withdrawn.replaces == sent[-1].id
        expected = [*sent, withdrawn]
    with VoteStore.open(address) as store:
        assert store.comparisons() == given
        assert store.votes() == expected
        assert store.counts().standing == 3
        assert store.verify() == []


def test_votes_cannot_be_changed_deleted_or_truncated(address):
    with VoteStore.open(address) as store:
        given = pairs(1)
        store.add(given)
        store.vote(vote(given[0]))
        for statement in (
            "UPDATE votes SET choice='b'",
            "DELETE FROM votes",
            "TRUNCATE votes CASCADE",
        ):
            with (
                psycopg.connect(address.replace("+psycopg", "")) as connection,
                pytest.raises(psycopg.errors.RaiseException, match="append-only"),
            ):
                connection.execute(statement)
        assert len(store.votes()) == 1


def test_eight_threads_give_exactly_k_votes_that_are_not_late(address):
    given = pairs(12)
    pair_of = {c.id: c for c in given}
    with VoteStore.open(address) as store:
        store.add(given, k=2)

        def label(rater):
            while task := store.next_task(rater):
                store.vote(vote(pair_of[task.id], rater, "tie"))

        threads = [threading.Thread(target=label, args=(f"rater-{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        on_time = Counter(v.comparison_id for v in store.votes() if not v.late)
        assert on_time == {c.id: 2 for c in given}
        assert store.verify() == []


def test_a_server_that_is_not_there_is_named_without_the_password():
    with pytest.raises(StoreError) as caught:
        VoteStore.open("postgresql+psycopg://kim:secret@127.0.0.1:1/votes")
    assert "secret" not in caught.value.message
    assert "127.0.0.1" in caught.value.message
