"""How a machine's verdict becomes a Vote with an id that a second run makes again."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prefkit.core.ids import canonical_json, content_id
from prefkit.core.records import Choice, Comparison, RaterKind, Vote
from prefkit.policy.resolve import DEFAULT_MODEL

_NAMESPACE = uuid.UUID("6f0c4d9e-2f5b-5d53-9d5c-5a2f6a3e9b11")


@dataclass(frozen=True, slots=True)
class Judged:
    """The votes of one rater, and the comparisons without one counted by reason.

    len(votes) + sum(failed.values()) = the number of comparisons asked about.
    """

    votes: list[Vote]
    failed: dict[str, int]


def machine_name(kind: str, model: str) -> str:
    """The name of a rater that is a model: its kind, and the model without paths of this machine.

    Votes travel with data and into model cards, so a folder or file is named by its last part. The
    digest of its place tells it from its namesakes; one trained anew in that place keeps its name,
    by which its new votes replace the old ones.
    """
    path = Path(os.path.expanduser(model))
    if model == DEFAULT_MODEL or not (path.exists() or path.is_absolute()):
        return f"{kind}:{model}"
    place = path.resolve()
    return f"{kind}:{place.name}-{content_id(str(place))[:8]}"


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
