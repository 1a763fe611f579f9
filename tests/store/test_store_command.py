"""prefkit store replay and verify, users erase: one screen, one JSON line, an exit code."""

from __future__ import annotations

import json
import sqlite3
import sys

import pytest
from store_cases import pairs, vote

from prefkit.cli.app import main
from prefkit.store import VoteStore


@pytest.fixture
def run(monkeypatch, capsys):
    """Run ``prefkit store WORDS --json``, or another verb; its exit code and value."""

    def call(*words, verb="store"):
        monkeypatch.setattr(sys, "argv", ["prefkit", verb, *map(str, words), "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, json.loads(capsys.readouterr().out.splitlines()[-1])

    return call


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "prefkit.yaml").write_text("")
    with VoteStore.open(tmp_path / "votes.db") as store:
        given = pairs(3)
        store.add(given)
        kim = store.rater_id("kim")
        store.add_votes([vote(c, kim, rationale="my own words") for c in given])
    return tmp_path


def test_a_replay_says_what_differs_and_mends_it_when_asked(run, workspace):
    assert run("replay", workspace)[1]["same"] is True
    with sqlite3.connect(workspace / "votes.db") as connection:
        connection.execute("DELETE FROM standing")
    code, said = run("replay", workspace)
    assert (code, said["same"], len(said["differences"]), said["written"]) == (1, False, 3, False)
    code, said = run("replay", workspace, "--write")
    assert (code, said["written"]) == (0, True)
    assert run("replay", workspace)[1]["same"] is True
    assert run("verify", workspace)[0] == 0


def test_erasing_a_person_by_name_leaves_a_sound_store(run, workspace):
    code, erased = run("erase", workspace, "kim", "--texts", verb="users")
    assert (code, erased["n_texts"], erased["wiped"]) == (0, 3, True)
    for file in workspace.glob("votes.db*"):
        assert b"my own words" not in file.read_bytes()
    code, found = run("verify", workspace)
    assert (code, found["sound"], found["n_checked"]) == (0, True, found["n_heads"])


def test_verify_says_which_heads_it_could_not_check(run, workspace):
    (workspace / "store.key").unlink()
    code, found = run("verify", workspace)
    assert (code, found["sound"], found["n_heads"], found["n_checked"]) == (0, True, 1, 0)
