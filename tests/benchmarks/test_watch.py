"""The watch of `make bench-train` sees the memory of a process tree and ends it at its limit."""

from __future__ import annotations

import os
import sys
import time

import pytest

from benchmarks.train.watch import run_watched

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")

MIB = 2**20
# Writing to every page makes it resident; a second is many looks of the watch.
HOLD = "import time; held = bytearray(b'x') * ({mib} << 20); time.sleep({seconds})"


def watched(tmp_path, code, **limits):
    limits = {"limit_bytes": 2**31, "timeout": 60.0, **limits}
    return run_watched([sys.executable, "-c", code], log=tmp_path / "log.txt", **limits)


def test_the_peak_is_what_the_process_held_at_most(tmp_path):
    empty = watched(tmp_path, "import time; time.sleep(0.5)")
    freed = watched(tmp_path, HOLD.format(mib=150, seconds=0.3) + "; del held; time.sleep(0.5)")
    assert 140 * MIB < freed.peak_bytes - empty.peak_bytes < 160 * MIB
    assert freed.returncode == 0
    assert freed.ended is None


def test_children_count(tmp_path):
    child = HOLD.format(mib=150, seconds=1)
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert watched(tmp_path, parent).peak_bytes > 150 * MIB


def test_a_tree_over_the_limit_is_ended(tmp_path):
    child = HOLD.format(mib=300, seconds=600)
    parent = (
        "import subprocess, sys; print('begun', flush=True); "
        f"subprocess.run([sys.executable, '-c', {child!r}])"
    )
    outcome = watched(tmp_path, parent, limit_bytes=200 * MIB)
    assert outcome.ended == "memory"
    assert outcome.seconds < 60
    assert (tmp_path / "log.txt").read_text() == "begun\n"


def test_nothing_of_the_tree_outlives_the_watch(tmp_path):
    pid = tmp_path / "pid"
    child = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    parent = (
        f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); "
        "time.sleep(600)"
    )
    assert watched(tmp_path, parent, timeout=2.0).ended == "time"
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid.read_text()}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pid.read_text()}")


def test_a_failing_command_reports_its_status(tmp_path):
    assert watched(tmp_path, "raise SystemExit(3)").returncode == 3
