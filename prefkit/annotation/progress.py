"""How far each rater is, without counting 100,000 tasks at every vote."""

from __future__ import annotations

import time
from dataclasses import replace
from threading import Lock

from prefkit.store import VoteStore
from prefkit.store.counting import RaterProgress
from prefkit.store.leases import Done

EXACT = 2000  # tasks of a rater up to which they are counted each time
SECONDS = 10.0  # for which a larger count is good; own votes are added meanwhile


class ProgressOf:
    """Counts of raters, kept for a while where counting takes long."""

    def __init__(self, store: VoteStore) -> None:
        self._store = store
        self._kept: dict[str, tuple[float, RaterProgress]] = {}
        self._open: tuple[float, int] = (0.0, 0)
        self._lock = Lock()

    def of(self, rater: str) -> RaterProgress:
        """How far ``rater`` is; what others do may show SECONDS later."""
        with self._lock:
            counted_at, known = self._kept.get(rater, (0.0, None))
        if known is not None and time.monotonic() - counted_at < SECONDS:
            return known
        known = self._store.progress(rater, self._n_open())
        if known.done + known.left > EXACT:
            with self._lock:
                self._kept[rater] = time.monotonic(), known
        return known

    def _n_open(self) -> int:
        """Counted anew each time where there are few, else the same for all raters for a while."""
        counted_at, n_open = self._open
        if n_open <= EXACT or time.monotonic() - counted_at >= SECONDS:
            n_open = self._store.n_open()
            self._open = time.monotonic(), n_open
        return n_open

    def note(self, rater: str, done: Done) -> None:
        """Add to what is kept what the rater has just done."""
        vote = done.vote
        if vote is None or not done.fresh or done.kind != "label":
            return
        stood, stands = done.before is not None, vote.choice != "withdrawn"
        with self._lock:
            if rater in self._kept:
                counted_at, known = self._kept[rater]
                known = replace(
                    known,
                    done=known.done + stands - stood,
                    skipped=known.skipped + (vote.choice == "skip") - (done.before == "skip"),
                    left=max(0, known.left - stands + stood),
                )
                self._kept[rater] = counted_at, known
