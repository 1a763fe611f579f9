"""When heads are signed: every two hundred events, every ten minutes, and at the end."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from prefkit.core.errors import PrefkitError
from prefkit.store import heads
from prefkit.store.database import Database

SIGN_EVERY = 200  # events that one process writes between two signed heads
SIGN_SECONDS = 600  # or less, where the last of them is so long ago
_log = logging.getLogger(__name__)


class Signer:
    """Counts the events that this process writes, and signs when it is time.

    What cannot be signed now is signed by the next head, with a warning in the log: the votes are
    on disk already, and a fault here must not look as if they were not.
    """

    def __init__(self, database: Database, home: Path | None) -> None:
        self._db = database
        self._home = home
        self._n_unsigned = 0
        self._signed_at = time.monotonic()

    def sign(self) -> None:
        """Sign the ends of the chains that have grown, whoever wrote them."""
        with suppress(PrefkitError):  # in the log already
            self._signing().result()

    def wrote(self, n: int) -> None:
        """Count n events, and sign if it is time."""
        if self._is_due(n):
            self.sign()

    def wrote_elsewhere(self, n: int) -> None:
        """As ``wrote``, told by the thread that writes, which cannot wait for itself."""
        if self._is_due(n):
            self._signing()

    def close(self) -> None:
        """Sign what was written and not yet signed."""
        if self._n_unsigned:
            self.sign()

    def _signing(self) -> Future[int]:
        self._n_unsigned, self._signed_at = 0, time.monotonic()

        def work(connection: sa.Connection) -> int:
            key = heads.find_or_make_key(self._home)
            return heads.sign(connection, key, datetime.now(UTC)) if key is not None else 0

        signing = self._db.submit(work)
        signing.add_done_callback(_log_fault)
        return signing

    def _is_due(self, n: int) -> bool:
        self._n_unsigned += n
        waited = time.monotonic() - self._signed_at
        return self._n_unsigned >= SIGN_EVERY or (self._n_unsigned > 0 and waited >= SIGN_SECONDS)


def _log_fault(signing: Future[int]) -> None:
    error = signing.exception()
    if error is not None:
        _log.warning("the chains of votes were not signed: %s", error)
