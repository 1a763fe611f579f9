"""Pairs drawn before they are asked for: Markdown and formulas of a long one take longer than all
else that a vote waits for. One thread, beside the requests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from types import TracebackType

from prefkit.core.errors import PrefkitError

_log = logging.getLogger(__name__)


class Warmer:
    """Draws what raters will probably be given next, as long as the context lasts.

    coming: a rater → comparison ids, the next one first. draw: called with each of them; it keeps
    what it drew. Outside of the context a wish is forgotten.
    """

    def __init__(
        self, coming: Callable[[str], Iterable[str]], draw: Callable[[str], object]
    ) -> None:
        self._coming = coming
        self._draw = draw
        self._changed = threading.Condition()
        self._raters: dict[str, None] = {}  # a set that keeps its order
        self._thread: threading.Thread | None = None

    def wish(self, rater: str) -> None:
        """Let the pairs after the rater's present ones be drawn; comes back at once."""
        with self._changed:
            if self._thread is not None:
                self._raters[rater] = None
                self._changed.notify()

    def __enter__(self) -> Warmer:
        self._thread = threading.Thread(target=self._run, name="warmer", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        thread = self._thread
        with self._changed:
            self._thread = None
            self._raters.clear()
            self._changed.notify()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while (rater := self._next()) is not None:
            try:
                for comparison_id in self._coming(rater):
                    if self._thread is None:
                        return
                    self._draw(comparison_id)
            except PrefkitError as error:  # a store in trouble: the requests say so as well
                _log.info("%s", error)

    def _next(self) -> str | None:
        """Whose wish is the oldest; None at the end."""
        with self._changed:
            while self._thread is not None and not self._raters:
                self._changed.wait()
            if self._thread is None:
                return None
            rater = next(iter(self._raters))
            del self._raters[rater]
            return rater
