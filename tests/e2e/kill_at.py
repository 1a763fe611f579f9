"""Run the prefkit command line and SIGKILL it at one chosen point.

    python kill_at.py call:MODULE:ATTRIBUTE[:before|after[:N]] ARGUMENTS…
    python kill_at.py file:GLOB ARGUMENTS…

call: before or after the N-th call of a function. file: as soon as a file matches GLOB.
"""

from __future__ import annotations

import glob
import importlib
import os
import signal
import sys
import threading
import time


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm_call(spec: str) -> None:
    module_name, path, *rest = spec.split(":")
    when, wanted = (rest + ["before", "1"][len(rest) :])[:2]
    owner = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    real, calls = getattr(owner, name), 0

    def counted(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == int(wanted) and when == "before":
            die()
        value = real(*arguments, **named)
        if calls == int(wanted) and when == "after":
            die()
        return value

    setattr(owner, name, counted)


def arm_file(pattern: str) -> None:
    def watch() -> None:
        while not glob.glob(pattern, recursive=True):
            time.sleep(0.001)
        die()

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    kind, _, spec = sys.argv[1].partition(":")
    {"call": arm_call, "file": arm_file}[kind](spec)
    sys.argv = ["prefkit", *sys.argv[2:]]
    from prefkit.cli import main

    main()
