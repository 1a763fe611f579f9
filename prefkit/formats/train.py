"""Training data of any known layout → TrainRows: pairs, unpaired answers, rankings, examples to
imitate.

Reads what load.py reads and the layouts of train_layouts.py besides. Malformed rows are errors
with their place, five at a time; rows that hold nothing to learn from are counted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from prefkit.core.errors import DataError
from prefkit.core.ids import content_id
from prefkit.core.records import Example, Messages, Prompt, TrainRow
from prefkit.formats.detect import detect
from prefkit.formats.layouts import LAYOUTS, Sides, Unusable
from prefkit.formats.load import (
    asks_nothing,
    build_example,
    label_numbers,
    own_table,
    read_each,
    rows_of,
)
from prefkit.formats.rows import Rows
from prefkit.formats.schema import from_table
from prefkit.formats.train_layouts import TRAIN_LAYOUTS, Answers
from prefkit.formats.values import is_missing, object_value, shown, tags_value

_log = logging.getLogger("prefkit.formats")


@dataclass(frozen=True, slots=True)
class TrainData:
    """Training rows and what reading them told; n_read = len(rows) + len(unusable).

    unusable: (place, reason) of each row left out. n_flipped: pairs whose sides were swapped
    because p < 0.5. n_tied: answers left out of lists because another has their rank. n_without_p:
    rows without p where other rows have one: they count as certain.
    """

    rows: list[TrainRow]
    source: str
    layout: str
    evidence: tuple[str, ...] = ()
    unused_columns: tuple[str, ...] = ()
    n_read: int = 0
    n_flipped: int = 0
    n_tied: int = 0
    n_without_p: int = 0
    unusable: tuple[tuple[str, str], ...] = ()


def read_train_data(
    data: Any,
    *,
    layout: str | None = None,
    split: str = "train",
    revision: str | None = None,
    mapping: Mapping[str, str] | None = None,
) -> TrainData:
    """The training rows of ``data``.

    data: a list of TrainRow or Example, or what ``prefkit.load`` takes: a path, a Hub id, a
    datasets.Dataset, a data frame, an Arrow table, rows as dictionaries. mapping: our column →
    theirs. DataError where the layout is not certain or rows are malformed, by row.
    """
    if isinstance(data, Sequence) and not isinstance(data, str) and len(data):
        items = cast(Sequence[Any], data)
        if all(isinstance(item, TrainRow) for item in items):
            return TrainData(list(items), "list", "rows", n_read=len(items))
        if all(isinstance(item, Example) for item in items):
            return _of_examples(items, "list", len(items))
    rows = rows_of(data, split=split, revision=revision)
    own = None if mapping or layout not in (None, "prefkit") else own_table(rows)
    if own is not None:
        return _of_examples(from_table(own, Example), rows.source, own.num_rows)
    if not rows.values:
        raise DataError(f"{rows.source}: no rows")
    return _read(rows, layout, mapping)


def _of_examples(examples: Sequence[Example], source: str, n: int) -> TrainData:
    rows = [TrainRow.of(example) for example in examples]
    evidence = ("prefkit's own examples, by their schema",)
    return TrainData(rows, source, "prefkit", evidence, n_read=n)


def _read(rows: Rows, layout: str | None, mapping: Mapping[str, str] | None) -> TrainData:
    found = detect(rows, layout=layout, mapping=mapping, among=(LAYOUTS, TRAIN_LAYOUTS))
    n_flipped = n_tied = n_without_p = 0
    ids = _own_ids(rows, found.columns.get("id"))

    def build(read: Any, values: Mapping[str, Any], index: int) -> TrainRow:
        nonlocal n_flipped, n_tied, n_without_p
        arguments = object_value(values.get("chat_template_kwargs"), "chat_template_kwargs")
        if isinstance(read, Sides):
            example, flipped = build_example(read, values, rows, index)
            n_flipped += flipped
            row = TrainRow.of(example)
        else:
            row, flipped = _row(cast(Answers, read), values, found.layout.target, rows)
            n_flipped += flipped
            n_tied += read.n_tied
        n_without_p += is_missing(values.get("p")) or values.get("p") == ""
        own = row.id if ids is None else ids[index]
        return replace(row, id=own, arguments=arguments, place=rows.place(index))

    read = read_each(rows, found, build)
    return TrainData(
        read.items,
        rows.source,
        found.layout.name,
        found.evidence,
        found.unused,
        len(rows.values),
        n_flipped,
        n_tied,
        n_without_p if n_without_p < len(read.items) else 0,
        read.unusable,
    )


def _own_ids(rows: Rows, column: str | None) -> list[str] | None:
    """The ids that the data give their rows; None where they give none, or the same to two rows,
    or to one nothing but text or a whole number. The log tells of the latter two."""
    if column is None:
        return None
    places: dict[str, int] = {}
    for index, row in enumerate(rows.values):
        value = row.get(column)
        text = str(value) if type(value) in (str, int) else ""
        if not text.strip():
            fault = f"{rows.place(index)} has {'none' if is_missing(value) else shown(value)}"
        elif text in places:
            fault = f"{text!r} stands at {rows.place(places[text])} and {rows.place(index)}"
        else:
            places[text] = index
            continue
        _log.warning("column %r does not name the rows, so prefkit's ids do: %s", column, fault)
        return None
    return list(places)


def _row(
    read: Answers, values: Mapping[str, Any], target: str, rows: Rows
) -> tuple[TrainRow, bool]:
    """The row of one reading, and whether its two sides were swapped (raw pairs with p < 0.5)."""
    if not read.raw and asks_nothing(read.prompt):
        raise Unusable("empty prompt")
    tags = tags_value(values.get("tags"))
    prompt = Prompt.make(read.prompt, tools=read.tools, source=Path(rows.source).name, tags=tags)
    p, weight, margin = label_numbers(values, texts=rows.texts)
    completions = read.completions
    if target != "pair":
        p = read.p if p is None else _desirable(p, read.p, target)
    flipped = p is not None and p < 0.5 and target == "pair"
    if flipped:
        completions, p = completions[::-1], 1.0 - cast(float, p)
        margin = None if margin is None else -margin
    return TrainRow(
        row_id(prompt, completions, target, p if target == "unpaired" else None),
        prompt,
        completions,
        cast(Any, target),
        1.0 if p is None else p,
        1.0 if weight is None else weight,
        margin,
    ), flipped


def _desirable(p: float, label: float, target: str) -> float:
    """P(the answer is desirable), which may not contradict its label."""
    if target != "unpaired":
        raise ValueError(f"p is {p:g}, and rows of this layout ({target}) take none")
    if (p - 0.5) * (label - 0.5) < 0:
        raise ValueError(
            f"label is {'true' if label else 'false'} and p is {p:g}; p is the probability that "
            "the answer is desirable"
        )
    return p


def row_id(
    prompt: Prompt, completions: Sequence[Messages], target: str, label: float | None
) -> str:
    """The content id of a training row that is no Example."""
    return content_id(
        {
            "prompt": prompt.id,
            "completions": [[m.canonical() for m in answer] for answer in completions],
            "target": target,
            "label": label,
        }
    )
