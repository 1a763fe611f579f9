"""What bad input gets: one clear message with the mend, exit code 1, nothing half-written."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import sys
from pathlib import Path

import pytest

from prefkit.cli import main
from prefkit.core.files import write_json
from prefkit.rounds.project import Project, init_workspace


def run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str]:
    """Exit code and stderr of the command line, run in this process."""
    monkeypatch.setattr(sys, "argv", ["prefkit", *arguments])
    try:
        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    error = capfd.readouterr().err
    assert "Traceback" not in error
    return code, error


@pytest.fixture
def fail(monkeypatch, capfd):
    """Run a command that must fail with exit code 1 and name its mend."""

    def check(*arguments: str) -> str:
        code, error = run(monkeypatch, capfd, *arguments)
        assert code == 1, error
        assert error.startswith("error: ")
        return error

    return check


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    rows = [{"prompt": f"question {n}"} for n in range(6)]
    return init_workspace(tmp_path / "ws", Project(), rows).path


@pytest.mark.parametrize("verb", ["curate", "inspect", "train", "annotate", "generate"])
def test_a_missing_file_is_named(verb: str, fail, tmp_path: Path) -> None:
    extra = ["--out", str(tmp_path / "out")] if verb in ("curate", "train", "generate") else []
    assert "nowhere.jsonl" in fail(verb, str(tmp_path / "nowhere.jsonl"), *extra)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["curate", "inspect", "annotate"])
def test_a_malformed_line_is_named(verb: str, fail, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    good = {"prompt": "q", "chosen": "a", "rejected": "b"}
    path.write_text(json.dumps(good) + "\n" + '{"prompt": "q", "chosen": \n')
    extra = ["--out", str(tmp_path / "out")] if verb == "curate" else []
    assert "pairs.jsonl:2" in fail(verb, str(path), *extra)
    assert [p.name for p in tmp_path.iterdir()] == ["pairs.jsonl"]


def test_an_unknown_key_names_line_and_neighbour(fail, workspace: Path) -> None:
    config = workspace / "prefkit.yaml"
    text = config.read_text().replace("  beta:", "  bata:")
    config.write_text(text)
    line = text[: text.index("  bata:")].count("\n") + 1
    error = fail("loop", "run", str(workspace))
    assert f"prefkit.yaml:{line}" in error
    assert "did you mean 'beta'" in error


def test_all_faults_of_a_configuration_come_at_once(fail, workspace: Path) -> None:
    error = fail(
        "loop", "run", str(workspace), "--set", "train.bata=1", "--set", "loop.rounds=many"
    )
    assert "train.bata" in error
    assert "loop.rounds" in error


def test_a_model_that_is_nowhere_says_what_to_do_offline(fail, workspace: Path) -> None:
    error = fail("loop", "run", str(workspace), "--set", "model=nobody/nothing-at-all")
    assert "nobody/nothing-at-all" in error
    assert "--model" in error


def test_an_empty_prompt_list_is_refused(fail, workspace: Path) -> None:
    (workspace / "prompts.jsonl").write_text("")
    assert "prompts.jsonl" in fail("loop", "run", str(workspace))


def test_a_folder_that_is_no_workspace_names_init(fail, tmp_path: Path) -> None:
    assert "prefkit init" in fail("status", str(tmp_path))


def test_init_refuses_to_write_over_a_workspace(fail, workspace: Path) -> None:
    before = (workspace / "prefkit.yaml").read_text()
    assert "already" in fail("init", str(workspace))
    assert (workspace / "prefkit.yaml").read_text() == before


def test_fresh_never_removes_a_folder_that_no_demo_made(fail, workspace: Path) -> None:
    assert "not made by prefkit demo" in fail("demo", str(workspace), "--fresh")
    assert (workspace / "prefkit.yaml").is_file()


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    from prefkit.core.errors import EnvironmentFault

    (tmp_path / f"out.json.tmp-{os.getpid()}").symlink_to("/dev/full")
    with pytest.raises(EnvironmentFault, match="disk is full"):
        write_json(tmp_path / "out.json", {"text": "x" * 100_000})
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_named(fail, workspace: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": "q", "a": "one", "b": "two"}) + "\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        error = fail("annotate", str(pairs), "--no-browser", "--port", port)
    assert port in error
    assert "--port" in error


def test_a_store_of_a_newer_version_is_refused_and_left_alone(fail, workspace: Path) -> None:
    store = workspace / "votes.db"
    with sqlite3.connect(store) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        before = list(connection.iterdump())
    assert "newer" in fail("store", "info", str(workspace))
    with sqlite3.connect(store) as connection:
        assert list(connection.iterdump()) == before


def test_a_store_that_is_no_database_is_refused_and_left_alone(fail, workspace: Path) -> None:
    store = workspace / "votes.db"
    store.write_bytes(b"this is not a database, but somebody's notes" * 100)
    before = store.read_bytes()
    assert "votes.db" in fail("store", "info", str(workspace))
    assert store.read_bytes() == before


def test_init_refuses_a_model_path_that_is_nowhere(fail, tmp_path: Path) -> None:
    assert "./nosuch" in fail("init", str(tmp_path / "ws"), "--model", "./nosuch")
    assert list(tmp_path.iterdir()) == []
