"""The held-out split: by prompt, so that no prompt is both trained on and evaluated on."""

from __future__ import annotations

from collections.abc import Sequence

from prefkit.core.ids import content_id
from prefkit.core.records import TrainRow


def split_by_prompt(
    rows: Sequence[TrainRow], share: float, seed: int
) -> tuple[list[TrainRow], list[TrainRow]]:
    """(to train on, held out), in the given order; no prompt is on both sides.

    A prompt's side depends on its id and the seed alone: rows added later, or another order, move
    no other prompt. So the part held out is ``share`` of the prompts on average only. With two
    prompts or more and 0 < share < 1 neither side is empty; a lone prompt is trained on.
    """
    places = {key: _place(seed, key) for key in {row.prompt.id for row in rows}}
    held = {key for key, place in places.items() if place < share}
    ordered = sorted(places, key=lambda key: (places[key], key))
    if held and len(held) == len(places):
        held.remove(ordered[-1])
    if not held and share > 0 and len(places) > 1:
        held = {ordered[0]}
    kept: list[TrainRow] = []
    apart: list[TrainRow] = []
    for row in rows:
        (apart if row.prompt.id in held else kept).append(row)
    return kept, apart


def _place(seed: int, key: str) -> float:
    """In [0, 1), as good as drawn at random."""
    return int(content_id(["held out", seed, key])[:13], 16) / 16**13
