"""``prefkit annotate`` and ``prefkit store`` as commands: what they make, say and refuse."""

from __future__ import annotations

import csv
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from urllib.request import urlopen

import pytest
from store_cases import pairs, vote

from prefkit.store import VoteStore
from prefkit.workspace import Workspace

ROWS = [
    {"prompt": "Name a colour.", "a": "Red.", "b": "There are many colours."},
    {"prompt": "What is 2+2?", "a": "4", "b": "Five"},
]

OPTIONS = ("--no-browser", "--port", "0", "--json")


def prefkit(*words, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "prefkit", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
    )


@pytest.fixture
def pairs_file(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_a_file_becomes_a_workspace_beside_it_and_again_adds_nothing(pairs_file):
    first = prefkit("annotate", pairs_file, "--import-only", "--json")
    assert first.returncode == 0, first.stderr
    value = json.loads(first.stdout.splitlines()[-1])
    assert (value["comparisons"], value["open"], value["imported"]["n_added"]) == (2, 2, 2)
    workspace = Workspace.open(pairs_file.with_suffix(".prefkit"))
    assert "made by prefkit annotate from pairs.jsonl" in workspace.config_path.read_text()
    with pairs_file.open("a") as handle:
        handle.write(json.dumps({"prompt": "new", "a": "x", "b": "y"}) + "\n")
    again = prefkit("annotate", pairs_file, "--import-only", "--json")
    value = json.loads(again.stdout.splitlines()[-1])
    assert (value["comparisons"], value["imported"]["n_added"]) == (3, 1)


def test_the_mend_for_unknown_columns_works(tmp_path):
    path = tmp_path / "my pairs.jsonl"
    path.write_text(json.dumps({"question": "q", "one": "x", "two": "y"}) + "\n")
    refused = prefkit("annotate", path, "--import-only")
    assert refused.returncode == 1
    assert "--map prompt=COLUMN --map a=COLUMN --map b=COLUMN" in refused.stderr
    maps = ("--map", "prompt=question", "--map", "a=one", "--map", "b=two")
    done = prefkit("annotate", path, "--import-only", *maps)
    assert done.returncode == 0, done.stderr
    workspace = path.with_suffix(".prefkit")
    assert shlex.split(done.stdout.rpartition("next: ")[2]) == [
        "prefkit",
        "annotate",
        str(workspace),
    ]


def test_csv_and_parquet_give_the_same_comparisons(pairs_file, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = tmp_path / "rows.csv"
    with table.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ["prompt", "a", "b"])
        writer.writeheader()
        writer.writerows(ROWS)
    columnar = tmp_path / "columns.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), columnar)
    found = []
    for path in (pairs_file, table, columnar):
        done = prefkit("annotate", path, "--import-only")
        assert done.returncode == 0, done.stderr
        with VoteStore.open(Workspace.open(path.with_suffix(".prefkit")).store_path) as store:
            found.append(
                {(c.prompt.text, frozenset([c.a.text, c.b.text])) for c in store.comparisons()}
            )
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"prompt": "x", "a": "1", "b": "2"}\n{broken\n', "pairs.jsonl:2"),
        ("", "pairs.jsonl"),
        ('{"question": "x"}\n', "pairs.jsonl"),
    ],
)
def test_a_bad_file_is_named_and_nothing_is_made(tmp_path, text, said):
    path = tmp_path / "pairs.jsonl"
    path.write_text(text)
    done = prefkit("annotate", path, "--import-only")
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "127.0.0.1 only"),
        (["--rater", "  "], "--rater"),
        (["--rater", "x\ny"], "--rater"),
    ],
)
def test_what_is_refused_says_why(pairs_file, words, said):
    done = prefkit("annotate", pairs_file, "--no-browser", *words)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_names_another(pairs_file):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = prefkit("annotate", pairs_file, "--no-browser", "--port", port)
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr
    assert f"--port {port + 1}" in done.stderr


def test_a_folder_without_a_workspace_and_one_without_pairs_say_what_to_run(tmp_path):
    done = prefkit("annotate", tmp_path)
    assert done.returncode == 1
    assert "prefkit init" in done.stderr
    (tmp_path / "prefkit.yaml").write_text("")
    done = prefkit("annotate", tmp_path)
    assert done.returncode == 1
    assert "nothing to label yet" in done.stderr


def started(path):
    """``prefkit annotate`` on ``path``, and its address once it answers."""
    running = subprocess.Popen(
        [sys.executable, "-m", "prefkit", "annotate", str(path), *OPTIONS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    for line in running.stderr:
        if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
            return running, found.group()
    raise AssertionError(f"it ended with {running.wait()}")


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_and_the_counts(pairs_file, by):
    running, _ = started(pairs_file)
    running.send_signal(by)
    out, rest = running.communicate(timeout=30)
    assert running.returncode == 0, rest
    assert "Traceback" not in rest
    assert json.loads(out.splitlines()[-1])["open"] == 2


def test_what_the_app_gives_out_is_aggregated_as_the_configuration_says(pairs_file):
    prefkit("annotate", pairs_file, "--import-only")
    workspace = Workspace.open(pairs_file.with_suffix(".prefkit"))
    with VoteStore.open(workspace.store_path) as store:
        store.add_votes([vote(c) for c in store.comparisons()])
    with workspace.config_path.open("a") as config:
        config.write("aggregate:\n  method: majority\n")
    running, url = started(workspace.path)
    try:
        with urlopen(f"{url}api/v1/lead/export/preferences") as reply:
            methods = {json.loads(line)["method"] for line in reply}
        with urlopen(f"{url}api/v1/preferences") as reply:
            methods |= {row["method"] for row in json.load(reply)["rows"]}
    finally:
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=30)
    assert methods == {"majority"}


def test_raising_k_in_the_configuration_reopens_the_pairs(pairs_file):
    prefkit("annotate", pairs_file, "--import-only")
    workspace = Workspace.open(pairs_file.with_suffix(".prefkit"))
    with VoteStore.open(workspace.store_path) as store:
        store.add_votes([vote(c) for c in store.comparisons()])
        assert store.counts().open == 0
    config = workspace.config_path.read_text()
    workspace.config_path.write_text(config.replace("k: 1", "k: 2"))
    done = prefkit("annotate", workspace.path, "--import-only", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["open"] == 2


def test_store_info_backup_verify_and_migrate(tmp_path):
    (tmp_path / "prefkit.yaml").write_text("")
    missing = prefkit("store", "info", tmp_path)
    assert missing.returncode == 1
    assert "no vote store yet" in missing.stderr
    with VoteStore.open(tmp_path / "votes.db") as store:
        given = pairs(3)
        store.add(given)
        store.vote(vote(given[0]))

    def last(*words):
        done = prefkit("store", *words, "--json")
        return done.returncode, json.loads(done.stdout.splitlines()[-1])

    code, info = last("info", tmp_path)
    assert (code, info["comparisons"], info["votes"], info["open"]) == (0, 3, 1, 2)
    code, made = last("backup", tmp_path)
    assert code == 0
    with VoteStore.open(made["backup"], create=False) as copy:
        assert len(copy.votes()) == 1
    code, found = last("verify", tmp_path)
    assert (code, found["store"]) == (0, str(tmp_path.resolve() / "votes.db"))
    assert (found["sound"], found["faults"], found["n_events"]) == (True, [], 1)
    assert (found["n_heads"], found["n_checked"]) == (1, 1)
    assert last("migrate", tmp_path)[1]["migrated"] is False
    import sqlite3

    with sqlite3.connect(tmp_path / "votes.db") as connection:
        connection.execute("UPDATE tasks SET n_done = 2")
    code, found = last("verify", tmp_path)
    assert (code, found["sound"], len(found["faults"])) == (1, False, 3)
