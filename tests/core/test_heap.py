"""core/heap.py: threads share one heap once it was told so, and a user's own tuning stands."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

# Four threads hold memory at once; malloc_info lists the heaps there are.
COUNT_HEAPS = """
import ctypes, sys, threading
from prefkit.core.heap import one_heap
print(one_heap() if sys.argv[1] == "told" else None)
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(4)
def hold():
    libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=hold) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
libc.fdopen.restype = ctypes.c_void_p
sys.stdout.flush()
stream = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, stream)
libc.fflush(stream)
"""

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_info"), reason="needs glibc: it lists the heaps"
)


def heaps(told: str, **environment: str) -> tuple[str, int]:
    """What ``one_heap`` said, and the heaps after four threads took memory."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("GLIBC_TUNABLES", "MALLOC_ARENA_MAX")
    }
    run = subprocess.run(
        [sys.executable, "-c", COUNT_HEAPS, told],
        capture_output=True,
        text=True,
        env={**inherited, **environment},
        check=True,
    )
    return run.stdout.split("\n")[0], run.stdout.count("<heap nr=")


def test_threads_share_one_heap() -> None:
    assert heaps("untold")[1] > 1
    assert heaps("told") == ("True", 1)


def test_the_users_own_tuning_stands() -> None:
    said, n = heaps("told", MALLOC_ARENA_MAX="3")
    assert said == "False"
    assert 1 < n <= 3
