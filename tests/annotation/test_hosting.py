"""In a Space the app starts only where the votes outlive a restart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from postgres_server import postgres_server

from prefkit.annotation.hosting import check_space
from prefkit.core.errors import EnvironmentFault

SPACE = {"SPACE_ID": "kim/labels"}
POSTGRES = "postgresql+psycopg://prefkit@db/votes"


def mounted(path):
    return path == Path("/data")


@pytest.mark.parametrize(
    ("workspace", "store", "is_mount"),
    [
        ("/home/user/work", POSTGRES, False),
        ("/data/work", None, True),
        ("/home/user/work", "/data/votes.db", True),
    ],
)
def test_votes_that_stay_are_let_through(workspace, store, is_mount):
    check_space(Path(workspace), store, environment=SPACE, is_mount=lambda path: is_mount)


@pytest.mark.parametrize(
    ("workspace", "store", "said"),
    [
        ("/home/user/work", None, "/home/user/work is on the Space's own disk"),
        ("/data/work", "/home/user/votes.db", "/home/user is on the Space's own disk"),
        ("/database/work", None, "/database/work is on the Space's own disk"),
        ("/data/../work", None, "is on the Space's own disk"),
    ],
)
def test_votes_beside_the_storage_are_refused(workspace, store, said):
    with pytest.raises(EnvironmentFault, match=said) as caught:
        check_space(Path(workspace), store, environment=SPACE, is_mount=mounted)
    assert "docs/deploy.md" in (caught.value.hint or "")


def test_a_folder_called_data_is_no_storage():
    with pytest.raises(EnvironmentFault, match="no storage is attached at /data"):
        check_space(Path("/data/work"), None, environment=SPACE, is_mount=lambda path: False)


def test_outside_a_space_nothing_is_asked():
    check_space(Path("/anywhere"), None, environment={}, is_mount=lambda path: False)


def test_the_app_itself_refuses_before_it_opens_a_store(tmp_path):
    pairs = tmp_path / "p.jsonl"
    pairs.write_text(json.dumps({"prompt": "q", "a": "x", "b": "y"}))
    words = [sys.executable, "-m", "prefkit", "annotate", str(pairs), "--no-browser"]
    done = subprocess.run(
        [*words, "--port", "0"],
        env={**os.environ, **SPACE},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "Space kim/labels" in done.stderr
    assert "every restart would lose all votes" in done.stderr
    assert "label at" not in done.stderr


@pytest.mark.postgres
def test_what_an_address_leaves_out_comes_from_the_environment(tmp_path):
    """As docs/deploy.md says: no password in prefkit.yaml."""
    (tmp_path / "prefkit.yaml").write_text("annotate:\n  store: postgresql+psycopg://\n")
    with postgres_server() as address:
        url = urlsplit(address)
        given = {
            "PGHOST": str(url.hostname),
            "PGPORT": str(url.port),
            "PGUSER": str(url.username),
            "PGDATABASE": url.path[1:],
        }
        pairs = tmp_path / "p.jsonl"
        pairs.write_text(json.dumps({"prompt": "q", "a": "x", "b": "y"}))
        words = [sys.executable, "-m", "prefkit", "import", str(pairs), "--into", str(tmp_path)]
        done = subprocess.run(
            [*words, "--json"],
            env={**os.environ, **given},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_added"] == 1
    assert not (tmp_path / "votes.db").exists()
