"""The load benchmark end to end, small: real processes, real Chromium, a line with its keys."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.annotate import run

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.browser
def test_a_quick_run_loses_nothing_and_prints_one_line_with_the_keys():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.annotate.run", "--quick", "--only", "sqlite"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.rstrip("\n").split("\n")[-1])
    assert list(line) == ["sqlite"]
    assert tuple(line["sqlite"]) == run.KEYS
    assert [line["sqlite"][key] for key in ("lost", "duplicate", "over_served")] == [0, 0, 0]
    assert all(line["sqlite"][key] > 0 for key in run.KEYS[:5])
    assert "store: sound" in done.stderr
