"""Raters at work: what is shown, what a key means, undo, history and progress. No HTTP, no page.

Left and right exist here only. A key is mapped to a slot by the side that the store recorded
when the pair was served, never by what the browser says it showed. Every method takes the rater
first; what writes returns a future, because many votes share a commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Literal, TypedDict, get_args

from prefkit.annotation.assignment import Assignment
from prefkit.annotation.guidelines import Guidelines
from prefkit.annotation.overlap import wanting
from prefkit.annotation.progress import ProgressOf
from prefkit.annotation.render import Turn
from prefkit.annotation.rendered import Rendered, media_parts
from prefkit.annotation.settings import AnnotateSettings
from prefkit.annotation.warming import Warmer
from prefkit.core.records import Choice, Part, Vote
from prefkit.store import VoteStore
from prefkit.store.counting import RaterProgress
from prefkit.store.leases import Ballot, Leases, Outcome, Spent
from prefkit.store.leasing import OTHER, LeasePlan, Slot
from prefkit.store.queries import find_comparison
from prefkit.store.shown import IdTaken, NotServed, Seen

__all__ = ["IdTaken", "Leases", "NotServed", "Session", "Spent"]

Key = Literal["1", "2", "3", "4", "5", "6", "7", "x", "i", "s"]
KEYS: tuple[Key, ...] = get_args(Key)
Side = Literal["left", "tie", "right"]
_WORDS: dict[str, Choice] = {"x": "both_bad", "i": "invalid", "s": "skip"}
_LONGEST = timedelta(hours=1)
_HIDDEN_PAGE = timedelta(minutes=2)
_RECENT = 50  # votes that say how long a rater takes
_RETRY_SECONDS = 5
_DRAWN_AHEAD = 8  # pairs of a lane, beside those that the page holds
_WISH_EVERY = 4  # requests; fewer than are drawn ahead


class Said(TypedDict):
    """What a rater gave with a vote, in the words of the page."""

    confidence: float | None
    aspects: dict[str, Side]
    rationale: str | None
    edit: str | None


@dataclass(frozen=True, slots=True)
class Pair:
    """A comparison as this rater sees it; every html is sanitised.

    It says nothing of kind, lane or model: gold and repeats look like any other. fold: how many
    turns of the prompt were read before or are the same for every pair. expires_s: how long it is
    kept without a sign of life. again: the rater's vote that a new one would replace, key: how they
    voted, said: what they said with it; all None for a pair that was not judged yet.
    """

    token: str
    task_id: str
    prompt: list[Turn]
    left: list[Turn]
    right: list[Turn]
    fold: int
    expires_s: int
    again: str | None = None
    key: Key | None = None
    said: Said | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What the page sends. id: a UUID it made; active_ms: how long the pair was in view.

    aspects: name → the better side. edit: the better answer as it should be. replaces: the vote
    that this one changes. guidelines: the version that the page showed; None for those in force.
    facts: measurements of the page, kept in the event.
    """

    id: str
    token: str
    key: Key
    active_ms: int | None = None
    confidence: float | None = None
    aspects: Mapping[str, Side] = field(default_factory=dict[str, Side])
    rationale: str | None = None
    edit: str | None = None
    replaces: str | None = None
    guidelines: str | None = None
    facts: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class View:
    """What a rater has before them. retry_s: when to ask again where others hold what is left.

    guidelines: the version in force.
    """

    state: Literal["ready", "waiting", "done"]
    pairs: list[Pair]
    progress: RaterProgress
    retry_s: int | None
    guidelines: str


def meaning(key: Key, shown_first: Slot) -> tuple[Choice, int | None]:
    """The choice and strength of a key: 1 to 3 the left slot, 4 a tie, 5 to 7 the right one.

    strength is |key − 4|: 3 much better, 2 better, 1 slightly, 0 a tie; None for x, i and s.
    """
    if key in _WORDS:
        return _WORDS[key], None
    step = int(key) - 4
    if step == 0:
        return "tie", 0
    return (shown_first if step < 0 else OTHER[shown_first]), abs(step)


def key_of(vote: Vote) -> Key | None:
    """The key that means what ``vote`` says; None for a vote that no key gives."""
    shown_first: Slot = vote.shown_first or "a"
    said = (vote.choice, vote.strength)
    return next((key for key in KEYS if meaning(key, shown_first) == said), None)


class Session:
    """The work of all raters on one store. What it keeps can be lost: caches, no state.

    warmer: a context in which pairs are drawn before they are asked for; without it they are drawn
    when they are.
    """

    def __init__(self, store: VoteStore, settings: AnnotateSettings) -> None:
        self._store = store
        self.guidelines = Guidelines(store, settings)
        self._shortest = timedelta(minutes=settings.lease_minutes)
        self._assignment = Assignment.of(settings, store.salt())
        self._progress = ProgressOf(store)
        self._ttls: dict[str, timedelta] = {}
        self._asked: Counter[str] = Counter()
        self._rendered = Rendered(store.comparison)
        self.leases = store.leases(wanting(settings.overlap))
        self.warmer = Warmer(self._coming, self._rendered.of)

    def next(self, rater: str) -> Future[Outcome]:
        """What to show now, the same until it is voted on. Reads: not for an event loop."""
        self._learn_pace(rater)
        return self.leases.next(rater, self._plan(rater))

    def vote(self, rater: str, judged: Judged) -> Future[Outcome]:
        """Store the vote; sent again it changes nothing and comes back as it was stored.

        The future raises NotServed, IdTaken or Spent.
        """
        ballot = Ballot(
            judged.id,
            judged.token,
            lambda seen: self._vote(rater, judged, seen),
            judged.replaces,
            judged.facts,
        )
        return self._noted(rater, self.leases.cast(rater, ballot, self._plan(rater)))

    def undo(self, rater: str, undo_id: str) -> Future[Outcome]:
        """Withdraw the newest vote and show its pair again, first; vote is None if none stands."""
        return self._noted(rater, self.leases.undo(rater, undo_id, self._plan(rater)))

    def beat(self, rater: str, tokens: list[str], *, hidden: bool) -> Future[int]:
        """A sign of life for pairs on a page; one that is hidden keeps them for two minutes."""
        return self.leases.beat(rater, tokens, _HIDDEN_PAGE if hidden else self._ttl(rater))

    def flag(
        self, rater: str, event_id: str, task_id: str, *, on: bool, note: str | None
    ) -> Future[None]:
        """Flag a task for the lead, or take the flag off."""
        version = self.guidelines.version
        return self.leases.flag(rater, event_id, task_id, on=on, note=note, guidelines=version)

    def read_guidelines(self, rater: str, event_id: str, version: str) -> Future[bool]:
        """Note that the rater was shown these guidelines."""
        return self.leases.read_guidelines(rater, event_id, version)

    def view(self, rater: str, outcome: Outcome, have: Collection[str] = ()) -> View:
        """What came of a request, to be shown; without the pairs the page has already."""
        told = self.guidelines.look().version
        self._asked[rater] += 1
        if self._asked[rater] % _RECENT == 0:
            self._learn_pace(rater)
        now = datetime.now(UTC)
        pairs = [
            self._pair(
                lease.token,
                Seen(lease.task, lease.shown_first, lease.lane),
                max(0, round((lease.expires_at - now).total_seconds())),
            )
            for lease in outcome.held
            if lease.token not in have
        ]
        if self._asked[rater] % _WISH_EVERY == 1:
            self.warmer.wish(rater)
        waits = outcome.state == "waiting"
        retry_s = (0 if outcome.soon else _RETRY_SECONDS) if waits else None
        return View(outcome.state, pairs, self._progress.of(rater), retry_s, told)

    def history(self, rater: str, before: int | None, limit: int) -> list[tuple[int, Vote]]:
        """The rater's votes that stand, newest first, each with the place of the next page."""
        return [(entry.seq, entry.vote) for entry in self._store.history(rater, before, limit)]

    def standing_vote(self, rater: str, vote_id: str) -> Vote | None:
        """The rater's vote of this id, if it stands; None for another's."""
        return self._store.standing_vote(rater, vote_id)

    def again(self, rater: str, vote: Vote) -> Pair:
        """The pair of a vote, to be judged anew; raises NotServed."""
        token = self.leases.token_of(rater, vote.task_id)
        seen = self.leases.seen(rater, token)
        return self._pair(token, seen, 0, vote)

    def media(self, rater: str, task_id: str, *, any_pair: bool = False) -> list[Part]:
        """The images and audio files of a task that the rater was shown; raises NotServed.

        any_pair: of any comparison too, by its id.
        """
        if any_pair:
            found = find_comparison(self._store.database, task_id)
            if found is not None:
                return media_parts(found)
        seen = self.leases.seen(rater, self.leases.token_of(rater, task_id))
        return media_parts(self._store.comparison(seen.task.comparison_id))

    def progress(self, rater: str) -> RaterProgress:
        """How far this rater is."""
        return self._progress.of(rater)

    def _noted(self, rater: str, future: Future[Outcome]) -> Future[Outcome]:
        def note(done: Future[Outcome]) -> None:
            if done.exception() is None:
                self._progress.note(rater, done.result().done)

        future.add_done_callback(note)
        return future

    def _vote(self, rater: str, judged: Judged, seen: Seen) -> Vote:
        if seen.task.kind == "adjudicate":
            raise NotServed("this pair was opened for a decision, and is decided there")
        choice, strength = meaning(judged.key, seen.shown_first)
        sides = {"left": seen.shown_first, "tie": "tie", "right": OTHER[seen.shown_first]}
        return Vote(
            id=judged.id,
            task_id=seen.task.id,
            comparison_id=seen.task.comparison_id,
            rater=rater,
            rater_kind="human",
            choice=choice,
            at=datetime.now(UTC),
            strength=strength,
            confidence=judged.confidence,
            aspects={name: sides[side] for name, side in judged.aspects.items()},
            rationale=judged.rationale,
            edit=judged.edit,
            shown_first=seen.shown_first,
            active_ms=judged.active_ms,
            guideline_version=judged.guidelines or self.guidelines.version,
        )

    def _plan(self, rater: str) -> LeasePlan:
        plan = self._assignment.plan(self._ttl(rater))
        return replace(plan, guidelines=self.guidelines.version)

    def _coming(self, rater: str) -> list[str]:
        return self.leases.coming(rater, self._plan(rater), _DRAWN_AHEAD)

    def _ttl(self, rater: str) -> timedelta:
        """Four times what the rater takes, at least what the settings say, at most an hour."""
        return self._ttls.get(rater, self._shortest)

    def _learn_pace(self, rater: str) -> None:
        recent = self._store.history(rater, limit=_RECENT)
        times = [e.vote.active_ms for e in recent if e.vote.active_ms is not None]
        needed = timedelta(milliseconds=4 * median(times)) if times else self._shortest
        self._ttls[rater] = min(max(self._shortest, needed), _LONGEST)

    def _pair(self, token: str, seen: Seen, expires_s: int, vote: Vote | None = None) -> Pair:
        drawn = self._rendered.of(seen.task.comparison_id)
        return Pair(
            token=token,
            task_id=seen.task.id,
            prompt=drawn.prompt,
            left=drawn.sides[seen.shown_first],
            right=drawn.sides[OTHER[seen.shown_first]],
            fold=drawn.fold,
            expires_s=expires_s,
            again=vote.id if vote is not None else None,
            key=key_of(vote) if vote is not None else None,
            said=_said(vote, seen.shown_first) if vote is not None else None,
        )


def _said(vote: Vote, shown_first: Slot) -> Said:
    sides: dict[str, Side] = {shown_first: "left", OTHER[shown_first]: "right"}
    return {
        "confidence": vote.confidence,
        "aspects": {name: sides.get(slot, "tie") for name, slot in vote.aspects.items()},
        "rationale": vote.rationale,
        "edit": vote.edit,
    }
