"""How often a second the disk makes 4 kB durable: what one transaction at a time could reach."""

from __future__ import annotations

import os
import time
from pathlib import Path


def fsyncs_per_s(folder: Path, seconds: float = 3.0) -> float:
    """Appends of 4 kB with fdatasync, a second, to a file in ``folder`` that is removed again."""
    path = folder / f"bench-{os.getpid()}"
    block = os.urandom(4096)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        start, n = time.perf_counter(), 0
        while (now := time.perf_counter()) - start < seconds:
            os.write(descriptor, block)
            os.fdatasync(descriptor)
            n += 1
        return n / (now - start)
    finally:
        os.close(descriptor)
        path.unlink()
