"""prefkit judge, as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from judging_cases import many

from prefkit.cli.source import workspace_ballots
from prefkit.core.records import Comparison, Vote
from prefkit.formats.tables import read_records, write_records
from prefkit.rounds.project import Project, init_workspace
from prefkit.store import VoteStore


def prefkit(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prefkit", "judge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def comparisons_file(folder: Path, n: int) -> tuple[Path, list[str]]:
    comparisons, slots = many(n)
    path = folder / "comparisons.parquet"
    write_records(path, comparisons, Comparison)
    return path, slots


def test_the_votes_of_a_file_go_into_a_file(tmp_path):
    path, slots = comparisons_file(tmp_path, 6)
    done = prefkit(path, "--json")
    value = json.loads(done.stdout.splitlines()[-1])
    votes = read_records(tmp_path / "comparisons.votes.parquet", Vote)
    assert [vote.choice for vote in votes] == slots
    assert value["votes"] == str(tmp_path / "comparisons.votes.parquet")
    assert (value["n_comparisons"], value["n_votes"], value["failed"]) == (6, 6, {})
    assert sum(value["choices"].values()) == 6


def test_the_votes_of_a_workspace_go_into_its_store_once(tmp_path):
    workspace = init_workspace(tmp_path / "work", Project(), [{"prompt": "A bee?"}])
    comparisons, _ = many(5)
    with VoteStore.open(workspace.store_path) as store:
        store.add(comparisons)
    added = []
    for _ in range(2):
        done = prefkit(workspace.path, "--rater", "format", "--noise", 0.2, "--json")
        added.append(json.loads(done.stdout.splitlines()[-1])["n_added"])
    assert added == [5, 0]
    with VoteStore.open(workspace.store_path) as store:
        assert {vote.rater for vote in store.votes()} == {"rule:format"}


def test_faults_are_one_line_with_a_mend_and_exit_code_1(tmp_path):
    path, _ = comparisons_file(tmp_path, 1)
    out = tmp_path / "votes.parquet"
    for arguments, said in (
        ((path, "--rater", "fromat", "--out", out), "did you mean 'format'"),
        ((path, "--noise", 0.9, "--out", out), "noise is 0.9"),
        ((path, "--set", "noize=0.1", "--out", out), "did you mean 'noise'"),
        ((path, "--origin", "round:1"), "only a workspace has origins"),
        ((tmp_path / "none.parquet",), "none.parquet"),
        ((tmp_path,), "not a prefkit workspace"),
    ):
        done = prefkit(*arguments)
        assert done.returncode == 1, arguments
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
    assert not out.exists()


def test_the_store_that_the_project_names_is_the_one_that_is_used(tmp_path):
    shared = tmp_path / "shared.db"
    project = Project.model_validate({"annotate": {"store": str(shared)}})
    workspace = init_workspace(tmp_path / "work", project, [{"prompt": "A bee?"}])
    with VoteStore.open(shared) as store:
        store.add(many(5)[0])
    done = prefkit(workspace.path, "--rater", "format", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["n_added"] == 5, done.stderr
    assert not workspace.store_path.exists()
    assert len(workspace_ballots(str(workspace.path)).votes) == 5
