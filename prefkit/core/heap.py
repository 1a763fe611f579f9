"""How the C library hands out memory: set before any thread is started."""

from __future__ import annotations

import ctypes
import os

# Names of malloc.h.
M_MXFAST, M_ARENA_MAX = 1, -8


def one_heap() -> bool:
    """Let glibc keep one heap and join every freed block to its neighbours; whether it was told.

    torch asks for aligned blocks. glibc cuts them out of larger ones and keeps the cuttings apart,
    so that a freed block is too small for the next request of its own size, and it does so in a
    heap a thread: a trainer of two threads grew to 2.85 GB where 2.40 were enough
    (2026-11-22, docs/log.md). That was fp32, where steps took 3 % longer; in bf16 memory fell by
    5 % and steps took 17 % longer, so it is not asked for there.
    Without effect on heaps that exist, on C libraries other than glibc and where the user has
    tuned the heap.
    """
    if "GLIBC_TUNABLES" in os.environ or "MALLOC_ARENA_MAX" in os.environ:
        return False
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(tune and tune(M_MXFAST, 0) and tune(M_ARENA_MAX, 1))
