"""Rows of one kind as another: what a loss that learns from no pairs makes of pairs.

The label goes along: a pair with p = P(chosen wins) becomes two answers that are desirable with p
and 1 − p; as a ranking or a demonstration it keeps its p, which losses without a soft form refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from prefkit.core.errors import DataError
from prefkit.core.records import Comparison, Messages, TrainRow
from prefkit.formats.load import of_other_side
from prefkit.formats.train import row_id

Target = Literal["pair", "unpaired", "ranking", "demonstration"]
# What a row can be learned from as, itself included.
BECOMES: Mapping[Target, tuple[Target, ...]] = {
    "pair": ("pair", "unpaired", "ranking", "demonstration"),
    "unpaired": ("unpaired",),
    "ranking": ("ranking", "demonstration"),
    "demonstration": ("demonstration",),
}
_NAMES: Mapping[Target, str] = {
    "pair": "pairs",
    "unpaired": "single answers with a label",
    "ranking": "ranked lists",
    "demonstration": "answers to imitate",
}


def target_for(rows: Sequence[TrainRow], wanted: Sequence[Target]) -> Target:
    """The first kind of ``wanted`` that all rows are or can become; the first where none is."""
    given: set[Target] = {row.target for row in rows}
    for kind in wanted:
        if all(kind in BECOMES[target] for target in given):
            return kind
    return wanted[0]


def as_target(row: TrainRow, target: Target) -> list[TrainRow]:
    """The row as ``target``: of a pair two unpaired answers, else one row, its best answer first.

    DataError for a kind that it cannot become.
    """
    if row.target == target:
        return [row]
    if target not in BECOMES[row.target]:
        raise DataError(
            f"{row.name}: {_NAMES[row.target]}, and this loss learns from {_NAMES[target]}",
            hint=f"choose a loss for {_NAMES[row.target]} (docs/losses.md), or other data",
        )
    best = _turned(row) if row.p < 0.5 else row
    if target == "unpaired":
        chosen, rejected = best.completions
        return [
            _alone(best, "chosen", chosen, best.p),
            _alone(best, "rejected", rejected, 1 - best.p),
        ]
    answers = best.completions if target == "ranking" else best.completions[:1]
    return [replace(best, completions=answers, target=target, margin=None)]


def likelier_first(row: TrainRow) -> TrainRow:
    """A pair with its likelier side first, p ≥ ½; any other row as it is."""
    return _turned(row) if row.target == "pair" and row.p < 0.5 else row


def units(rows: Sequence[TrainRow]) -> list[tuple[int, ...]]:
    """The indices of ``rows``, both answers of a pair that was split in two together."""
    found: list[tuple[int, ...]] = []
    at = 0
    while at < len(rows):
        one, other = rows[at], rows[at + 1] if at + 1 < len(rows) else None
        # The same pair twice in the data: its first answers have one id.
        both = other is not None and one.pair != "" and one.pair == other.pair
        both = both and other is not None and one.id != other.id
        found.append((at, at + 1) if both else (at,))
        at += len(found[-1])
    return found


def undesirable(comparison: Comparison) -> list[TrainRow]:
    """Both answers of a comparison that raters called bad."""
    prompt = comparison.prompt
    return [
        TrainRow(
            row_id(prompt, (side.messages,), "unpaired", 0.0),
            prompt,
            (side.messages,),
            "unpaired",
            p=0.0,
        )
        for side in (comparison.a, comparison.b)
    ]


def _turned(row: TrainRow) -> TrainRow:
    """The pair seen from its other side, its votes too."""
    votes, evidence = row.votes, row.evidence
    if votes is not None:
        try:
            votes, evidence = of_other_side(votes, evidence)
        except ValueError as error:
            raise DataError(f"{row.name}: {error}") from None
    return replace(
        row,
        completions=row.completions[::-1],
        p=1 - row.p,
        margin=None if row.margin is None else -row.margin,
        votes=votes,
        evidence=evidence,
    )


def _alone(row: TrainRow, side: str, answer: Messages, p: float) -> TrainRow:
    """One side of a pair as an answer with a label; it says which pair it comes from."""
    return replace(
        row,
        id=f"{row.id}-{side}",
        completions=(answer,),
        target="unpaired",
        p=p,
        margin=None,
        pair=row.id,
    )
