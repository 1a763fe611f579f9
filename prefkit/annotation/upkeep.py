"""What is done beside the votes: the store made ready at the start, and jobs that come again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from prefkit.annotation.assignment import is_sliced
from prefkit.annotation.guidelines import put_in_force
from prefkit.annotation.orders import places
from prefkit.annotation.settings import AnnotateSettings
from prefkit.core.errors import PrefkitError
from prefkit.formats.comparisons import read_gold
from prefkit.store import VoteStore
from prefkit.store.leases import Leases
from prefkit.store.ordering import is_at_the_back

REAP_SECONDS = 30
SIGN_SECONDS = 600
ORDER_SECONDS = 60
NEW_SHARE = 0.05  # of votes, after which the uncertain ones are others
_log = logging.getLogger(__name__)
Job = tuple[float, Callable[[], object]]


def prepare(store: VoteStore, settings: AnnotateSettings) -> int:
    """Guidelines, gold items and the order of tasks as the settings say; how many tasks moved."""
    put_in_force(store, settings)
    if settings.gold is not None:
        store.add_gold(read_gold(settings.gold))
    return arrange(store, settings)


def arrange(store: VoteStore, settings: AnnotateSettings) -> int:
    """Put the tasks in order; how many moved. Those opened again stay behind the others."""
    tasks = store.tasks(with_tags=settings.order == "stratified" and settings.strata != "origin")
    now = {task.id: task for task in tasks}
    sliced = is_sliced(settings)
    moved = [
        place
        for place in places(tasks, settings, store.salt(), sliced=sliced)
        if place.lane != now[place.id].lane
        or not (place.priority == now[place.id].priority or is_at_the_back(now[place.id].priority))
    ]
    if moved:
        facts = {
            "order": settings.order,
            "strata": settings.strata,
            "slice": settings.random_slice if sliced else None,
            "n_tasks": len(moved),
        }
        store.arrange(moved, facts)
    return len(moved)


class Reorder:
    """Puts the uncertain tasks in order again once there are enough new votes."""

    def __init__(self, store: VoteStore, settings: AnnotateSettings) -> None:
        self._store = store
        self._settings = settings
        self._n_votes = store.counts().votes

    def __call__(self) -> int:
        """How many tasks moved."""
        n_votes = self._store.counts().votes
        if n_votes - self._n_votes < max(1.0, NEW_SHARE * self._n_votes):
            return 0
        self._n_votes = n_votes
        return arrange(self._store, self._settings)


def jobs(store: VoteStore, leases: Leases, settings: AnnotateSettings) -> list[Job]:
    """What an app has to do again and again, each with its seconds."""
    found: list[Job] = [(REAP_SECONDS, leases.reap), (SIGN_SECONDS, store.sign)]
    if settings.order == "uncertain":
        found.append((ORDER_SECONDS, Reorder(store, settings)))
    return found


class Upkeep:
    """Jobs in a thread of their own, as long as the context lasts.

    A fault that a user can mend is logged and the job tried again when it is due.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def __enter__(self) -> Upkeep:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        due = [time.monotonic() + seconds for seconds, _ in self._jobs]
        while due and not self._ended.wait(max(0.0, min(due) - time.monotonic())):
            for index, (seconds, job) in enumerate(self._jobs):
                if due[index] <= time.monotonic():
                    self._do(job)
                    due[index] = time.monotonic() + seconds

    @staticmethod
    def _do(job: Callable[[], object]) -> None:
        try:
            job()
        except PrefkitError as error:
            _log.warning("%s", error)
