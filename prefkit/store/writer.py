"""Group commit: one thread writes to an SQLite store for all threads of its process.

A commit with ``synchronous=FULL`` waits for the disk. What comes in while one is waiting is
written together by the next, each work in a savepoint of its own, so that one that fails hurts no
other. Nobody is answered before the commit that holds their work.

Between processes SQLite's own lock is enough, but those who wait for it sleep up to 100 ms; a
lock file beside the store lets them take turns. Without it the store is as safe, only slower.
"""

from __future__ import annotations

import fcntl
import os
import queue
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from prefkit.store.quick import Quick

LARGEST = 64  # works in one commit
_POLL_SECONDS = 0.001
_SAVEPOINT, _RELEASE = Quick("SAVEPOINT job"), Quick("RELEASE job")
_ROLL_BACK = Quick("ROLLBACK TO job")
T = TypeVar("T")


@dataclass(slots=True)
class _Job:
    work: Callable[[sa.Connection], Any]
    future: Future[Any] = field(default_factory=Future[Any])


class GroupWriter:
    """Does works one after the other, many to a commit.

    transaction: opens one that writes. turns: the lock file. patience: seconds to wait for a turn;
    then SQLite's lock decides alone.
    """

    def __init__(
        self,
        transaction: Callable[[], AbstractContextManager[sa.Connection]],
        turns: Path,
        patience: float,
    ) -> None:
        self._transaction = transaction
        self._turns = turns
        self._patience = patience
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def submit(self, work: Callable[[sa.Connection], T]) -> Future[T]:
        """What ``work`` returns, once it is on disk; or what it raised, and nothing written."""
        job = _Job(work)
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, args=(self._jobs,), name="votes", daemon=True
                )
                self._thread.start()
            self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Write all that was submitted, and end the thread.

        What is submitted meanwhile (who is answered may submit again) is written too.
        """
        while True:
            with self._starting:
                thread, jobs = self._thread, self._jobs
                self._thread, self._jobs = None, queue.SimpleQueue()
            if thread is None:
                return
            jobs.put(None)
            thread.join()  # without the lock, which those who are answered need to submit

    def _run(self, jobs: queue.SimpleQueue[_Job | None]) -> None:
        while batch := _next(jobs):
            self._write(batch)

    def _write(self, batch: list[_Job]) -> None:
        values: list[tuple[_Job, Any]] = []
        try:
            with self._turn(), self._transaction() as connection:
                for job in batch:
                    values += _do(connection, job, alone=len(batch) == 1)
        except BaseException as error:  # noqa: BLE001 - handed on to those who wait for it
            for job in batch:
                if not job.future.done():
                    job.future.set_exception(error)
            return
        for job, value in values:
            job.future.set_result(value)

    @contextmanager
    def _turn(self) -> Generator[None]:
        try:
            descriptor = os.open(self._turns, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:  # a folder that may not be written to: the transaction will say so
            yield
            return
        try:
            until = time.monotonic() + self._patience
            while not _locked(descriptor) and time.monotonic() < until:
                time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(descriptor)  # and with it the lock


def _next(jobs: queue.SimpleQueue[_Job | None]) -> list[_Job]:
    """All that waits, at least one; empty when the end was asked for."""
    batch: list[_Job] = []
    job = jobs.get()
    while job is not None:
        if job.future.set_running_or_notify_cancel():
            batch.append(job)
        if batch and (len(batch) == LARGEST or jobs.empty()):
            return batch
        job = jobs.get()
    if batch:
        jobs.put(None)  # the end, once this batch is written
    return batch


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: SQLite's own decides alone
    return True


def _do(connection: sa.Connection, job: _Job, *, alone: bool) -> list[tuple[_Job, Any]]:
    """The job with its value; none where it failed, and was told so, and left no trace."""
    if alone:
        return [(job, job.work(connection))]
    _SAVEPOINT(connection)
    try:
        value = job.work(connection)
        _RELEASE(connection)
    except BaseException as error:  # noqa: BLE001 - handed on to the one who waits for it
        try:
            _ROLL_BACK(connection)
            _RELEASE(connection)
        except DBAPIError:  # a full disk has ended the whole transaction: all of the batch fail
            raise error from None
        job.future.set_exception(error)
        return []
    return [(job, value)]
