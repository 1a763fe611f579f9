"""Best checkpoint and early stop: what the evaluations of a run say of going on.

A pure function of evaluations.jsonl, so a run that goes on after a kill stands where it stood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands after its evaluations.

    best_step, best: of the evaluation with the least loss (of equals the first), None before one
    has a value. n_since: evaluations since then, all of them before. stop: patience is used up.
    """

    best_step: int | None
    best: float | None
    n_since: int
    stop: bool


def standing(evaluations: Sequence[Mapping[str, Any]], *, patience: int | None = None) -> Standing:
    """What the lines of evaluations.jsonl, in order, say of going on.

    patience: evaluations in which the loss may fail to improve; None never stops. An evaluation
    without a loss counts as one that did not improve.
    """
    step: int | None = None
    best: float | None = None
    n_since = 0
    for line in evaluations:
        loss = line.get("loss")
        n_since += 1
        if loss is not None and (best is None or loss < best):
            step, best, n_since = line["step"], loss, 0
    return Standing(step, best, n_since, patience is not None and n_since >= patience)
