"""The held-out split: by prompt, so that no prompt is both trained on and evaluated on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from prefkit.core.ids import content_id
from prefkit.core.records import Prompt, TrainRow, text_of
from prefkit.formats.train import row_id


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


def with_own_prompt(row: TrainRow) -> TrainRow:
    """The row, with a prompt id of its own where it is raw text: all raw text has the empty prompt.

    What a pair is asked is taken for the whole words with which both answers begin, so that pairs
    on one prompt share an id unless their answers begin alike. Other raw text is one prompt a row.
    """
    prompt = row.prompt
    if prompt.messages or prompt.id != Prompt.make((), tools=prompt.tools).id:
        return row
    texts = [text_of(answer) for answer in row.completions]
    n = next((i for i, c in enumerate(zip(*texts, strict=False)) if len(set(c)) > 1), None)
    # The answers may begin with the same letters.
    asked = re.sub(r"\S*$", "", min(texts, key=len)[:n]) if len(texts) > 1 else ""
    # Not by the row's id, which may be the user's own: the same text twice is one prompt.
    label = row.p if row.target == "unpaired" else None
    own = row_id(prompt, row.completions, row.target, label)
    key = {"raw prompt": asked} if asked.strip() else {"raw row": own}
    return replace(row, prompt=replace(prompt, id=content_id(key)))


def _place(seed: int, key: str) -> float:
    """In [0, 1), as good as drawn at random."""
    return int(content_id(["held out", seed, key])[:13], 16) / 16**13
