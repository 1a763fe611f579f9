"""A store moved to another database is the same store: rows, chains, heads, and what comes next."""

from __future__ import annotations

import json
import sys

import psycopg
import pytest
import tampering
from lease_cases import take
from store_cases import pair, pairs, vote

from prefkit.cli.app import main
from prefkit.core.errors import StoreError
from prefkit.store import VoteStore

pytestmark = pytest.mark.postgres
WHOLE = ("events", "texts", "heads", "raters", "votes", "standing", "served", "users", "tasks")


@pytest.fixture
def filled(tmp_path):
    """A workspace whose SQLite store has votes, words, names, an undo and guidelines."""
    (tmp_path / "prefkit.yaml").write_text("")
    given = [pair("nul \x00 and \ud800"), *pairs(3)]
    with VoteStore.open(tmp_path / "votes.db") as store:
        store.add(given, k=2)
        kim = store.rater_id("kim")
        store.set_guidelines("v1", "Be kind \u2713")
        take(store, kim)
        store.add_votes([vote(c, kim, "tie", strength=0, rationale="so \u2713") for c in given])
        store.undo(kim, "undo-1")
    return tmp_path


def contents(place):
    """Every row of the tables that make a store, as text (times as ISO, booleans as 0 and 1)."""
    return {
        table: sorted(json.dumps(row, default=_plain, sort_keys=True) for row in found)
        for table in WHOLE
        if (found := _numbers(tampering.rows(place, f"SELECT * FROM {table}"))) is not None
    }


def _numbers(rows):
    moments = ("at", "looked_at", "erased_at")
    for row in rows:
        for name, value in row.items():
            if isinstance(value, bool):
                row[name] = int(value)
            elif name in moments and isinstance(value, str):
                row[name] = value.rstrip("0").rstrip(".")
    return rows


def _plain(moment):
    from datetime import UTC

    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")
    return text.rstrip("0").rstrip(".") if "." in text else text


def test_a_store_moved_to_a_server_is_the_same_and_goes_on(filled, address, monkeypatch, capsys):
    words = ["prefkit", "store", "copy", str(filled), "--to", address, "--json"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (ended.value.code or 0, said["comparisons"], said["votes"]) == (0, 4, 5)
    assert contents(address) == contents(filled / "votes.db")
    with VoteStore.open(address, home=filled) as moved:
        examined = moved.examine()
        assert (examined.faults, examined.n_heads, examined.n_checked) == ([], 1, 1)
        assert moved.guidelines("v1") == "Be kind \u2713"
        assert moved.add(pairs(5)) == 2
        assert moved.vote(vote(pairs(5)[4], "lee")).choice == "a"
        assert moved.verify() == []


def test_there_and_back_again_nothing_has_changed(filled, address, tmp_path):
    with VoteStore.open(filled / "votes.db") as store:
        store.copy_to(address)
    with VoteStore.open(address, home=filled) as store:
        back = store.copy_to(tmp_path / "back.db")
    assert contents(back) == contents(filled / "votes.db")


def test_a_database_that_holds_a_store_is_left_alone(filled, address):
    with VoteStore.open(address, home=filled) as there:
        there.add(pairs(1))
    with VoteStore.open(filled / "votes.db") as store:
        with pytest.raises(StoreError, match="holds a vote store already"):
            store.copy_to(address)
        with pytest.raises(StoreError, match="exists already"):
            store.copy_to(filled / "votes.db")
    with VoteStore.open(address, home=filled) as there:
        assert there.counts().comparisons == 1


def test_a_store_with_faults_is_not_copied(filled, address):
    tampering.run(filled / "votes.db", "UPDATE votes SET choice = 'a'")
    with (
        VoteStore.open(filled / "votes.db") as store,
        pytest.raises(StoreError, match="not copied, because it has 5 faults"),
    ):
        store.copy_to(address)
    with psycopg.connect(address.replace("+psycopg", "")) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert tables.fetchall() == []
