"""Disputed pairs decided by a reviewer, blind: the others' votes come after their own is stored.

The reasons are the ten sources of disagreement of Zhang et al. (arXiv 2410.14632, Table 1); most
of them are no error of anybody, and say what the guidelines leave open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from prefkit.annotation.session import Key, meaning
from prefkit.core.records import Vote
from prefkit.core.rng import derive_rng
from prefkit.store import VoteStore
from prefkit.store.adjudicating import Case, NotForYou, case_of, open_case
from prefkit.store.disputes import Dispute, inbox
from prefkit.store.leases import Ballot
from prefkit.store.leasing import LeasePlan, Slot
from prefkit.store.queries import Happened, task_history
from prefkit.store.shown import NotServed, Seen

# name → (its class, what it says on the page)
REASONS: dict[str, tuple[str, str]] = {
    "underspecified": ("Task", "The prompt can be read in several ways"),
    "verbosity": ("Style", "Length: how much is enough"),
    "format": ("Style", "Format: lists, headings, layout"),
    "complexity": ("Style", "Complexity: how much the reader is taken to know"),
    "taste": ("Style", "Taste: tone, humour, creativity"),
    "comply_or_refuse": ("Refusal", "One answer complies, the other refuses"),
    "how_to_refuse": ("Refusal", "Both refuse, in different ways"),
    "hallucination": ("Error", "An answer says what is not true"),
    "degenerate": ("Error", "An answer is broken or does not answer"),
    "slip": ("Error", "A rater slipped: nothing in the pair explains it"),
}
_NO_MORE = LeasePlan(0, timedelta(minutes=10), lambda _: (), lambda _: "a", lambda _: False)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a reviewer sends. id: a UUID of the page; token: the case's. key: as on the rater's
    page, but no skip. reasons: names of REASONS."""

    id: str
    token: str
    key: Key
    reasons: tuple[str, ...] = ()
    rationale: str | None = None
    active_ms: int | None = None
    facts: Mapping[str, int] = field(default_factory=dict[str, int])


class Adjudication:
    """Disputes, cases and decisions on one store."""

    def __init__(self, store: VoteStore) -> None:
        self._store = store
        self._salt = store.salt()
        self._leases = store.leases()

    def inbox(self, reviewer: str, *, decided: bool, page: int) -> tuple[list[Dispute], int]:
        """A page of disputes, most disputed first, and how many there are."""
        return inbox(self._store.database, reviewer, decided=decided, page=page)

    def open(self, reviewer: str, comparison_id: str, guideline_version: str | None = None) -> Case:
        """The pair for this reviewer, its sides drawn by lot and kept. Raises NotForYou."""
        side = self._side(reviewer, comparison_id)
        now = datetime.now(UTC)
        return self._store.database.write(
            lambda connection: open_case(
                connection, reviewer, comparison_id, side, now, guideline_version
            )
        )

    def decide(
        self, reviewer: str, comparison_id: str, ruling: Ruling, guideline_version: str
    ) -> Vote:
        """Store the decision, a vote of its own kind; sent again it changes nothing.

        Raises NotServed, IdTaken, or Spent where the reviewer has decided this pair.
        """

        def judged(seen: Seen) -> Vote:
            if (seen.task.kind, seen.task.comparison_id) != ("adjudicate", comparison_id):
                raise NotServed("this pair was not opened for a decision")
            choice, strength = meaning(ruling.key, seen.shown_first)
            return Vote(
                id=ruling.id,
                task_id=seen.task.id,
                comparison_id=seen.task.comparison_id,
                rater=reviewer,
                rater_kind="human",
                choice=choice,
                at=datetime.now(UTC),
                strength=strength,
                rationale=ruling.rationale,
                shown_first=seen.shown_first,
                active_ms=ruling.active_ms,
                guideline_version=guideline_version,
            )

        facts = {**ruling.facts, "reasons": list(ruling.reasons)}
        ballot = Ballot(ruling.id, ruling.token, judged, facts=facts)
        vote = self._leases.cast(reviewer, ballot, _NO_MORE).result().vote
        assert vote is not None, "a vote that was cast is there"
        return vote

    def revealed(self, reviewer: str, comparison_id: str) -> list[Happened]:
        """Everybody's votes on the pair; raises NotForYou before the reviewer's own is stored."""
        case = self._case(reviewer, comparison_id)
        if case is None or case.decided is None:
            raise _first_decide()
        return task_history(self._store.database, comparison_id)

    def history(self, lead: str, comparison_id: str) -> list[Happened]:
        """All that happened to a pair; raises NotForYou while it is theirs to decide."""
        case = self._case(lead, comparison_id)
        if case is not None and case.decided is None:
            raise _first_decide()
        return task_history(self._store.database, comparison_id)

    def decision(self, comparison_id: str) -> Happened | None:
        """The newest decision on a pair that stands, None where there is none."""
        found = [
            happened
            for happened in task_history(self._store.database, comparison_id)
            if happened.task_kind == "adjudicate" and happened.kind == "vote" and happened.stands
        ]
        return found[-1] if found else None

    def _case(self, reviewer: str, comparison_id: str) -> Case | None:
        with self._store.database.reading() as connection:
            return case_of(connection, reviewer, comparison_id)

    def _side(self, reviewer: str, comparison_id: str) -> Slot:
        draw = derive_rng("adjudicate", self._salt, reviewer, comparison_id)
        return "a" if draw.random() < 0.5 else "b"


def _first_decide() -> NotForYou:
    return NotForYou("decide the pair first: the others' votes are shown after that")
