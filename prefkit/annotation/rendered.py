"""Comparisons as a rater reads them: drawn once, kept for all, the shared part found.

What leads both answers alike belongs to the question. Of the question, what lies before the
last thing the user said is folded: it was read before, or is the same for every pair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from prefkit.annotation.render import Turn, media_of, render_messages
from prefkit.core.records import Comparison, Messages, Part
from prefkit.store.leasing import Slot

KEPT = 2048  # comparisons


@dataclass(frozen=True, slots=True)
class Drawn:
    """A comparison as turns. fold: how many turns of ``prompt`` may be hidden at first."""

    prompt: list[Turn]
    sides: dict[Slot, list[Turn]]
    fold: int


class Rendered:
    """Comparisons by id, each drawn when it is first asked for. What is kept can be lost."""

    def __init__(self, read: Callable[[str], Comparison], kept: int = KEPT) -> None:
        self._read = read
        self.of = lru_cache(maxsize=kept)(self._of)

    def _of(self, comparison_id: str) -> Drawn:
        return draw(self._read(comparison_id))


def draw(comparison: Comparison) -> Drawn:
    """The turns of a comparison; media are counted in the order of ``media_parts``."""
    asked, a, b = comparison.prompt.messages, comparison.a.messages, comparison.b.messages
    n_shared = shared_turns(a, b)
    question = (*asked, *a[:n_shared])
    before_b = len(media_of((*asked, *a)))
    sides: dict[Slot, list[Turn]] = {
        "a": render_messages(a[n_shared:], len(media_of(question))),
        "b": render_messages(b[n_shared:], before_b + len(media_of(b[:n_shared]))),
    }
    return Drawn(render_messages(question), sides, folded_turns(question))


def media_parts(comparison: Comparison) -> list[Part]:
    """The images and audio files of a comparison: of the question, of a, of b."""
    messages = (*comparison.prompt.messages, *comparison.a.messages, *comparison.b.messages)
    return media_of(messages)


def shared_turns(a: Messages, b: Messages) -> int:
    """How many turns lead both answers alike; each keeps its last one."""
    n = 0
    while n < min(len(a), len(b)) - 1 and a[n] == b[n]:
        n += 1
    return n


def folded_turns(question: Messages) -> int:
    """How many turns come before the last one of the user; before the last one without any."""
    of_user = [index for index, message in enumerate(question) if message.role == "user"]
    return of_user[-1] if of_user else max(0, len(question) - 1)
