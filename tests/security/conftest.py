"""A real Chromium, and the app with accounts as a real process that may reach loopback only."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from browsing import running_chromium

# In the server process: every connection that is begun, and every name that is looked up.
WATCH = """\
import os, sys

def watch(event, arguments):
    if event == "socket.connect":
        told = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        told = arguments
    else:
        return
    line = f"{event} {told!r}\\n"
    with open(os.environ["PREFKIT_TEST_WATCH"], "a") as handle:
        handle.write(line)

sys.addaudithook(watch)
"""


@dataclass
class Served:
    """A running ``prefkit annotate``. reached: where it connected to, or looked up."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    @property
    def reached(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def serve(tmp_path):
    """``serve(folder) -> Served``; ended with the test."""
    running: list[Served] = []
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)

    def start(folder: Path, *words: str) -> Served:
        log = tmp_path / "reached.txt"
        paths = [str(tmp_path / "watch"), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "PREFKIT_TEST_WATCH": str(log),
        }
        command = [sys.executable, "-m", "prefkit", "annotate", str(folder), "--no-browser"]
        process = subprocess.Popen(
            [*command, "--port", "0", *words],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        for line in process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                running.append(Served(found.group(), process, log))
                return running[-1]
        pytest.fail("prefkit annotate did not start")

    yield start
    for served in running:
        served.process.send_signal(signal.SIGTERM)
        served.process.communicate(timeout=30)


@pytest.fixture
def address():
    """The address of a fresh database on a PostgreSQL server of its own."""
    from postgres_server import postgres_server

    with postgres_server() as server:
        yield server.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(scope="module")
def chromium():
    """A running Chromium for the tests of one file."""
    with running_chromium() as browser:
        yield browser
