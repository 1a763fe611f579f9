"""Comparisons and votes for the tests of the store, the session and the app."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from prefkit.core.records import Comparison, Completion, Message, Prompt, Vote


def pair(
    prompt: str, one: str = "first", other: str = "second", *, origin: str = "test"
) -> Comparison:
    """A comparison of two plain answers."""
    asked = Prompt.make([Message.of("user", prompt)])
    answers = [
        Completion.make(asked.id, [Message.of("assistant", text)], model)
        for text, model in ((one, "model-1"), (other, "model-2"))
    ]
    return Comparison.make(asked, *answers, origin=origin)


def pairs(n: int, *, origin: str = "test") -> list[Comparison]:
    """n comparisons with different prompts."""
    return [pair(f"question {i}", origin=origin) for i in range(n)]


def vote(comparison: Comparison, rater: str = "kim", choice: str = "a", **values) -> Vote:
    """A person's vote with a fresh id."""
    given = {"id": str(uuid.uuid4()), "rater_kind": "human", "at": datetime.now(UTC), **values}
    return Vote(
        task_id=comparison.id, comparison_id=comparison.id, rater=rater, choice=choice, **given
    )
