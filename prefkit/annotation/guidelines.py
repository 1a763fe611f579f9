"""What raters are told now: the text of the settings, and the examples that were added to it.

The text in prefkit.yaml is the base. An example made from a decided pair gives a new version, an
event of the store; the base stays what it is, so a restart keeps the examples, and another text
in prefkit.yaml replaces both.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from prefkit.annotation.settings import AnnotateSettings
from prefkit.core.ids import content_id
from prefkit.core.records import Comparison, Vote
from prefkit.store import VoteStore, guidance
from prefkit.store.chain import SYSTEM, lock_raters
from prefkit.store.guidance import InForce
from prefkit.store.tables import storable

SECONDS = 5.0  # after which another process's example is seen here
LONGEST_QUOTE = 800  # characters of each text in an example
HEADING = "## Examples"


def put_in_force(store: VoteStore, settings: AnnotateSettings) -> bool:
    """Let the text of the settings be in force, unless it is with examples; whether it changed."""
    with store.database.reading() as connection:
        now = guidance.current(connection)
    if now is not None and now.base == settings.guideline_version:
        return False
    return store.set_guidelines(settings.guideline_version, settings.guidelines)


class Guidelines:
    """The guidelines in force, asked for every SECONDS; ``version`` is what was found last."""

    def __init__(self, store: VoteStore, settings: AnnotateSettings) -> None:
        self._store = store
        own = settings.guideline_version
        self._own = InForce(own, own, settings.guidelines)
        self._now = self._own
        self._asked = -SECONDS
        self._lock = Lock()

    @property
    def version(self) -> str:
        """The version that was found last; never asks the store."""
        return self._now.version

    def look(self) -> InForce:
        """The guidelines in force; reads, so not for an event loop."""
        if time.monotonic() - self._asked >= SECONDS:
            with self._lock:
                if time.monotonic() - self._asked >= SECONDS:
                    with self._store.database.reading() as connection:
                        self._now = self._found(connection)
                    self._asked = time.monotonic()
        return self._now

    def text_of(self, version: str) -> str | None:
        """The text of a version that was ever in force, or None; reads."""
        for known in (self._now, self._own):
            if version == known.version:
                return known.text
        return self._store.guidelines(version)

    def _found(self, connection: Any) -> InForce:
        """What the store says, if it is the text of these settings or made from it."""
        found = guidance.current(connection)
        return self._own if found is None or found.base != self._own.version else found

    def add_example(self, comparison: Comparison, decided: Vote, note: str, by: str) -> InForce:
        """Add a decided pair to what raters are told, as a new version; what is in force then.

        note: what the lead says of it (Markdown). by: the lead's id.
        """

        def work(connection: Any) -> InForce:
            lock_raters(connection, [SYSTEM])  # so that another lead's example is seen first
            before = self._found(connection)
            added = example(before.text, comparison, decided, note)
            text = storable(f"{before.text.rstrip()}\n\n{added}")
            after = InForce(content_id(text)[:12], before.base, text)
            more = {"base": before.base, "example": comparison.id, "by": by}
            guidance.set_guidelines(connection, after.version, text, datetime.now(UTC), more)
            return after

        with self._lock:
            self._now = self._store.database.write(work)
            self._asked = time.monotonic()
        return self._now


def example(before: str, comparison: Comparison, decided: Vote, note: str) -> str:
    """The example as Markdown, with the heading of all examples if it is the first."""
    number = sum(line.startswith("### Example ") for line in before.splitlines()) + 1
    worded = {
        "a": "The first answer is better.",
        "b": "The second answer is better.",
        "tie": "Neither is better.",
        "both_bad": "Both are bad.",
        "invalid": "This pair cannot be judged.",
    }
    lines = [] if number > 1 or HEADING in before.splitlines() else [HEADING, ""]
    lines += [f"### Example {number}", ""]
    for name, text in (
        ("Prompt", comparison.prompt.text),
        ("First answer", comparison.a.text),
        ("Second answer", comparison.b.text),
    ):
        lines += [f"{name}:", "", *_quoted(text), ""]
    lines += [f"**{worded[decided.choice]}** {note}".strip(), ""]
    return "\n".join(lines)


def _quoted(text: str) -> list[str]:
    """``text`` as a quotation; what a model wrote as Markdown ends with it."""
    shown = text.strip()
    if len(shown) > LONGEST_QUOTE:
        shown = f"{shown[:LONGEST_QUOTE].rstrip()} …"
    return [f"> {line}".rstrip() for line in shown.splitlines()] or ["> (empty)"]
