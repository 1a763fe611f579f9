"""Best checkpoint and early stop: what the evaluations of a run say of going on.

A pure function of evaluations.jsonl, so a run that goes on after a kill stands where it stood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Metrics of evaluations.jsonl of which less is better; of all others more is.
LOWER_IS_BETTER = frozenset({"loss", "ece", "brier", "nll_per_token", "kl"})


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands after its evaluations.

    best_step, best: of the best evaluation (of equals the first), None before one has a value.
    n_since: evaluations since the last one that improved by more than min_delta. stop: patience is
    used up.
    """

    best_step: int | None
    best: float | None
    n_since: int
    stop: bool


def standing(
    evaluations: Sequence[Mapping[str, Any]],
    *,
    patience: int | None = None,
    metric: str = "loss",
    min_delta: float = 0.0,
) -> Standing:
    """What the lines of evaluations.jsonl, in order, say of going on.

    patience: evaluations in which ``metric`` may fail to improve by more than ``min_delta``; None
    never stops. An evaluation without a value of the metric counts as one that did not improve.
    """
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    best: tuple[float, int] | None = None
    mark: float | None = None
    n_since = 0
    for line in evaluations:
        value = line.get(metric)
        n_since += 1
        if value is None:
            continue
        if best is None or sign * value < best[0]:
            best = (sign * value, line["step"])
        if mark is None or sign * value < mark - min_delta:
            mark, n_since = sign * value, 0
    stop = patience is not None and n_since >= patience
    if best is None:
        return Standing(None, None, n_since, stop)
    return Standing(best[1], sign * best[0], n_since, stop)
