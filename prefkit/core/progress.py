"""How a stage says how far it is, without knowing who looks."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called as often as a stage likes; ``total`` is None where it is not known.

    note: a few words beside the count, such as a speed; stages that have none leave it out.
    """

    def __call__(
        self, what: str, done: int, total: int | None = None, note: str = "", /
    ) -> None: ...


def silent(what: str, done: int, total: int | None = None, note: str = "") -> None:
    """The Progress that shows nothing."""
