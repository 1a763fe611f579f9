"""How a machine's verdict becomes a Vote with an id that a second run makes again."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from prefkit.core.ids import canonical_json
from prefkit.core.records import Choice, Comparison, RaterKind, Vote

_NAMESPACE = uuid.UUID("6f0c4d9e-2f5b-5d53-9d5c-5a2f6a3e9b11")


@dataclass(frozen=True, slots=True)
class Judged:
    """The votes of one rater, and the comparisons without one counted by reason.

    len(votes) + sum(failed.values()) = the number of comparisons asked about.
    """

    votes: list[Vote]
    failed: dict[str, int]


def machine_vote(
    comparison: Comparison,
    rater: str,
    choice: Choice,
    *,
    kind: RaterKind = "rule",
    strength: int | None = None,
    p_a: float | None = None,
    confidence: float | None = None,
    rationale: str | None = None,
    aspects: Mapping[str, str] | None = None,
    settings: Mapping[str, object] | None = None,
) -> Vote:
    """A vote whose id depends on the comparison, the rater and the rater's ``settings`` alone.

    So the same rater asked twice adds nothing to a store. shown_first stays None: a rule sees no
    order, and a judge is asked in both.
    """
    identity = canonical_json([comparison.id, rater, kind, dict(settings or {})])
    return Vote(
        id=str(uuid.uuid5(_NAMESPACE, identity)),
        task_id=comparison.id,
        comparison_id=comparison.id,
        rater=rater,
        rater_kind=kind,
        choice=choice,
        at=datetime.now(UTC),
        strength=strength,
        p_a=p_a,
        confidence=confidence,
        rationale=rationale,
        aspects=dict(aspects or {}),
    )
