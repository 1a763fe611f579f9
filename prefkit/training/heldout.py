"""What is kept apart, and what its evaluations say: best checkpoint, early stop. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from prefkit.core.ids import content_id

T = TypeVar("T")
# Metrics of evaluations.jsonl of which less is better; of all others more is.
LOWER_IS_BETTER = frozenset({"loss", "ece", "brier", "nll_per_token", "kl"})


def split_by_prompt(
    items: Sequence[T], share: float, seed: int, *, prompt_id: Callable[[T], str]
) -> tuple[list[T], list[T]]:
    """(to train on, held out), in the given order; no prompt is on both sides.

    A prompt's side depends on its id and the seed alone: rows added later, or another order, move
    no other prompt. So the part held out is ``share`` of the prompts on average only. With two
    prompts or more and 0 < share < 1 neither side is empty.
    """
    places = {key: _place(seed, key) for key in {prompt_id(item) for item in items}}
    held = {key for key, place in places.items() if place < share}
    if 0 < share < 1 and len(places) > 1:
        ordered = sorted(places, key=lambda key: (places[key], key))
        if not held:
            held = {ordered[0]}
        elif len(held) == len(places):
            held.remove(ordered[-1])
    kept: list[T] = []
    apart: list[T] = []
    for item in items:
        (apart if prompt_id(item) in held else kept).append(item)
    return kept, apart


def _place(seed: int, key: str) -> float:
    """In [0, 1), as good as drawn at random."""
    return int(content_id(["held out", seed, key])[:13], 16) / 16**13


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
    """What the lines of evaluations.jsonl, in order, say of going on; None never stops.

    An evaluation without a value of ``metric`` counts as one that did not improve.
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
