"""A real Chromium and the labelling app as a real process."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from browsing import running_chromium


@dataclass
class App:
    """``prefkit annotate`` on a workspace; ``stop`` with a signal, ``start`` on the same port."""

    path: Path
    rater: str | None = "kim"
    port: int = 0
    url: str = ""
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def start(self) -> str:
        command = [sys.executable, "-m", "prefkit", "annotate", str(self.path)]
        command += [] if self.rater is None else ["--rater", self.rater]
        self.process = subprocess.Popen(
            [*command, "--no-browser", "--json", "--port", str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        said = []
        for line in self.process.stderr:
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                self.url, self.port = found.group(), int(found.group(1))
                return self.url
        pytest.fail(f"prefkit annotate did not start: {''.join(said)}")

    def stop(self, by: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """The exit code and what was printed on stdout."""
        assert self.process is not None
        self.process.send_signal(by)
        out, _ = self.process.communicate(timeout=30)
        return self.process.returncode, out


@pytest.fixture
def start_app() -> Generator:
    """``start_app(path, rater="kim") -> App``; what still runs at the end is killed."""
    apps: list[App] = []

    def start(path: Path, rater: str | None = "kim") -> App:
        app = App(path, rater)
        apps.append(app)
        app.start()
        return app

    yield start
    for app in apps:
        if app.process is not None and app.process.poll() is None:
            app.process.kill()
            app.process.communicate()


@pytest.fixture(scope="module")
def chromium() -> Generator:
    """A running Chromium for the tests of one file."""
    with running_chromium() as browser:
        yield browser
