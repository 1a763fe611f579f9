"""Peak memory of this process and its children, sampled while they run."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import psutil

INTERVAL_SECONDS = 0.2


class PeakMemory:
    """Context manager; ``gib`` is the largest sum of resident sets seen, five samples a second.

    Pages that parent and child share are counted twice, so the figure is an upper bound.
    """

    def __init__(self) -> None:
        self._peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    @property
    def gib(self) -> float:
        """The peak so far, in GiB."""
        return self._peak_bytes / 2**30

    def _watch(self) -> None:
        parent = psutil.Process()
        while not self._stop.is_set():
            self._peak_bytes = max(self._peak_bytes, _resident_bytes(parent))
            self._stop.wait(INTERVAL_SECONDS)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()


def _resident_bytes(parent: psutil.Process) -> int:
    total = 0
    for process in [parent, *parent.children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
