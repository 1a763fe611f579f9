"""A command run under watch: how long it took, how much memory its process tree ever held.

Peak memory is the largest sum of VmHWM (the high-water mark of resident memory that the kernel
keeps for each process) over the processes that were alive together. A tree that grows past the
limit is ended, so that a run that cannot fit says so instead of taking the machine down. Linux.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

INTERVAL = 0.2  # seconds between two looks: peaks are kept by the kernel, looking costs time


@dataclass(frozen=True, slots=True)
class Watched:
    """peak_bytes: see the module; ended: why the watch ended the command, None if it did not."""

    returncode: int
    seconds: float
    peak_bytes: int
    ended: Literal["memory", "time"] | None


def run_watched(
    command: Sequence[str],
    *,
    log: Path,
    limit_bytes: int,
    timeout: float,
    env: Mapping[str, str] | None = None,
) -> Watched:
    """Run ``command`` with its output in ``log``; its whole process group is gone afterwards.

    limit_bytes: resident memory of the tree at which it is ended. timeout: in seconds.
    """
    started = time.monotonic()
    peak, ended = 0, None
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=env, start_new_session=True
        )
        try:
            while process.poll() is None:
                high, resident = tree_memory(process.pid)
                peak = max(peak, high)
                if resident > limit_bytes:
                    ended = "memory"
                elif time.monotonic() - started > timeout:
                    ended = "time"
                if ended:
                    break
                time.sleep(INTERVAL)
        finally:
            _end(process)
    return Watched(process.returncode, time.monotonic() - started, peak, ended)


def tree_memory(root: int) -> tuple[int, int]:
    """Bytes (Σ VmHWM, Σ VmRSS) over ``root`` and all its descendants that are alive."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and (parent := _parent(int(entry))) is not None:
            children.setdefault(parent, []).append(int(entry))
    high = resident = 0
    left = [root]
    while left:
        process = left.pop()
        left += children.get(process, [])
        fields = _status(process)
        high += fields.get("VmHWM", 0)
        resident += fields.get("VmRSS", 0)
    return high, resident


def _parent(process: int) -> int | None:
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it ended while we looked
        return None
    # The name in parentheses may hold spaces: count from the last one.
    return int(stat.rpartition(")")[2].split()[1])


def _status(process: int) -> dict[str, int]:
    """The Vm lines of a process, in bytes; empty where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.split() for line in lines.splitlines() if line.startswith("Vm"))
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in pairs}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the group, also what the command left behind, and take its exit status."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
