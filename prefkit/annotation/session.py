"""One rater at work: what is shown, what a key means, undo and progress. No HTTP, no page.

Left and right exist here only. A key is mapped to a slot by the side that the store recorded
when the pair was served, never by what the browser says it showed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from prefkit.annotation.render import Turn, render_messages
from prefkit.annotation.settings import AnnotateSettings
from prefkit.core.errors import DataError
from prefkit.core.records import Choice, Vote
from prefkit.core.rng import derive_seed
from prefkit.store import Served, VoteStore
from prefkit.store.votes import RaterProgress, Slot

Key = Literal["1", "2", "3", "4", "5", "6", "7", "x", "i", "s"]
KEYS: tuple[Key, ...] = get_args(Key)
_OTHER: dict[Slot, Slot] = {"a": "b", "b": "a"}
_WORDS: dict[str, Choice] = {"x": "both_bad", "i": "invalid", "s": "skip"}


class NotServed(DataError):
    """A vote on a task that this rater was never shown."""


class IdTaken(DataError):
    """A vote id that another vote has."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A comparison as this rater sees it; every html is sanitised."""

    task_id: str
    prompt: list[Turn]
    left: list[Turn]
    right: list[Turn]


@dataclass(frozen=True, slots=True)
class Ballot:
    """What the page sends: id is a UUID it made, active_ms how long the pair was in view."""

    id: str
    task_id: str
    key: Key
    active_ms: int | None = None


def meaning(key: Key, shown_first: Slot) -> tuple[Choice, int | None]:
    """The choice and strength of a key: 1 to 3 the left slot, 4 a tie, 5 to 7 the right one.

    strength is |key − 4|: 3 much better, 2 better, 1 slightly, 0 a tie; None for x, i and s.
    """
    if key in _WORDS:
        return _WORDS[key], None
    step = int(key) - 4
    if step == 0:
        return "tie", 0
    return (shown_first if step < 0 else _OTHER[shown_first]), abs(step)


class Session:
    """One rater's work on one store. Holds no state: a reload or a restart loses nothing."""

    def __init__(self, store: VoteStore, rater: str, settings: AnnotateSettings) -> None:
        self._store = store
        self._rater = rater
        self._guidelines = settings.guideline_version

    def next_pair(self) -> Pair | None:
        """The pair to show now, the same until it is voted on; None when nothing is left."""
        task = self._store.next_task(self._rater)
        if task is None:
            return None
        left: Slot = "ab"[derive_seed("side", self._rater, task.id) & 1]  # type: ignore[assignment]
        return _pair(self._store.serve(task.id, self._rater, left))

    def vote(self, ballot: Ballot) -> Vote:
        """Store the vote and return it; the same ballot again returns the same vote.

        Raises NotServed, or IdTaken where the id belongs to another vote.
        """
        served = self._store.served(ballot.task_id, self._rater)
        if served is None:
            raise NotServed(f"task {ballot.task_id} was never shown to {self._rater}")
        choice, strength = meaning(ballot.key, served.shown_first)
        stored = self._store.vote(
            Vote(
                id=ballot.id,
                task_id=served.task.id,
                comparison_id=served.comparison.id,
                rater=self._rater,
                rater_kind="human",
                choice=choice,
                at=datetime.now(UTC),
                strength=strength,
                shown_first=served.shown_first,
                active_ms=ballot.active_ms,
                guideline_version=self._guidelines,
            )
        )
        if (stored.rater, stored.task_id) != (self._rater, ballot.task_id):
            raise IdTaken(f"vote id {ballot.id} belongs to another vote")
        return stored

    def undo(self, vote_id: str) -> Pair | None:
        """Withdraw the newest vote and return its pair to be judged again; None if none stands.

        The same id again withdraws nothing more. Raises IdTaken.
        """
        withdrawn = self._store.undo(self._rater, vote_id)
        if withdrawn is None:
            return None
        if (withdrawn.rater, withdrawn.choice) != (self._rater, "withdrawn"):
            raise IdTaken(f"vote id {vote_id} belongs to another vote")
        served = self._store.served(withdrawn.task_id, self._rater)
        return _pair(served) if served is not None else self.next_pair()

    def progress(self) -> RaterProgress:
        """How far this rater is."""
        return self._store.progress(self._rater)


def _pair(served: Served) -> Pair:
    comparison = served.comparison
    sides = {"a": comparison.a, "b": comparison.b}
    return Pair(
        task_id=served.task.id,
        prompt=render_messages(comparison.prompt.messages),
        left=render_messages(sides[served.shown_first].messages),
        right=render_messages(sides[_OTHER[served.shown_first]].messages),
    )
