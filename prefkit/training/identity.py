"""What makes two runs the same run: what they are given, and the versions that compute them.

The digest covers model, starting adapter, reference, tokens, labels and settings, and the versions
of prefkit, torch, transformers and peft: the same digest means the same result, so a finished run
is not done again and a killed one goes on. It does not cover the device, the number of threads and
the tokens at once: a run that goes on with others is the same one, and its numbers agree up to
rounding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from prefkit.core.ids import content_id
from prefkit.training.constraints import constraint_digest

if TYPE_CHECKING:
    from prefkit.training.plan import Plan

# How the run is watched, stored and packed changes no result beyond rounding.
WITHOUT_EFFECT = {
    "alarms",
    "checkpoint_every",
    "log_every",
    "n_samples",
    "reference_store",
    "tokens_at_once",
    "trackers",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """inputs: digest of all that a run is given. versions: package → version."""

    inputs: str
    versions: Mapping[str, str]

    @property
    def run(self) -> str:
        """The run's digest."""
        return content_id({"inputs": self.inputs, "versions": dict(self.versions)})

    def notes(self) -> dict[str, str]:
        """As a checkpoint's header holds it."""
        return {"run": self.run, "inputs": self.inputs, "versions": json.dumps(self.versions)}

    def unlike(self, inputs: object, versions: object) -> str:
        """In words, in what a run of those is another; None where it did not say."""
        if inputs != self.inputs or not isinstance(versions, dict):
            return "other data, model or settings"
        changed = [
            f"{name} was {versions.get(name)} and is {now}"
            for name, now in self.versions.items()
            if versions.get(name) != now
        ]
        how = ", ".join(changed) or "its files have changed since"
        return f"the same data, model and settings, but {how}"


def identify(plan: Plan) -> Identity:
    """The identity of what ``plan`` holds."""
    settings = plan.settings.model_dump(mode="json", exclude=WITHOUT_EFFECT)
    inputs = content_id(
        {
            "model": plan.source.digest,
            "start": plan.start_digest,
            "reference": plan.reference.digest if plan.reference else None,
            "rows": plan.rows.digest(),
            "heldout": plan.heldout.digest(),
            "settings": settings,
            "constraints": [constraint_digest(c) for c in plan.objective.constraints],
            "sources": _sources(plan) if plan.objective.constraints else None,
        }
    )
    return Identity(inputs, versions_here())


def versions_here() -> dict[str, str]:
    """The packages that a result depends on, as they are here."""
    return {name: version(name) for name in ("prefkit", "torch", "transformers", "peft")}


def _sources(plan: Plan) -> list[Any]:
    """What a constraint can read of the rows that their tokens do not say."""
    rows = [row.source for row in (*plan.rows.rows, *plan.heldout.rows)]
    return [
        [dict(row.prompt.tags), row.prompt.source, row.evidence, row.votes, row.p] for row in rows
    ]
