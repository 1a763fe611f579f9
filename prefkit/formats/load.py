"""Preference data of any known layout → the table of Examples.

Malformed rows are errors with their place. Well-formed rows that are no pair (two dialogues
without a common prompt, an empty prompt) are dropped, counted and listed. Rows with p < 0.5 get
their sides swapped, counted as flipped.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import numpy as np
import pyarrow as pa

from prefkit.core.errors import DataError
from prefkit.core.records import Example, Messages, Prompt
from prefkit.formats.comparisons import load_comparisons
from prefkit.formats.detect import Detected, detect
from prefkit.formats.hub import is_hub_id, load_hub
from prefkit.formats.layouts import Sides, Unusable
from prefkit.formats.prompts import load_prompts
from prefkit.formats.rows import Row, Rows, first_faults, is_row_file, read_rows, rows_of_table
from prefkit.formats.schema import EXAMPLES, to_table
from prefkit.formats.values import is_missing, number_value, tags_value

__all__ = ["Loaded", "load", "load_comparisons", "load_prompts", "read_examples", "rows_of"]
INFINITY = float("inf")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Examples and what reading them told.

    rows: for each example the index (from 0) of its source row. unusable: (place, reason) of
    each row left out; n_read = table.num_rows + len(unusable). n_diverging: dialogues that part
    before the last answer, kept with an answer of several turns.
    """

    table: pa.Table
    source: str
    layout: str
    evidence: tuple[str, ...]
    unused_columns: tuple[str, ...]
    n_read: int
    n_flipped: int = 0
    n_diverging: int = 0
    unusable: tuple[tuple[str, str], ...] = ()
    rows: Sequence[int] = field(default=(), repr=False)

    @property
    def counts(self) -> dict[str, int]:
        """Rows read, usable, flipped, diverging, and left out by reason."""
        reasons = Counter(reason for _, reason in self.unusable)
        return {
            "n_read": self.n_read,
            "n_examples": self.table.num_rows,
            "n_flipped": self.n_flipped,
            "n_diverging": self.n_diverging,
            **{f"unusable: {reason}": n for reason, n in sorted(reasons.items())},
        }


def load(
    data: Any,
    *,
    layout: str | None = None,
    split: str = "train",
    revision: str | None = None,
    mapping: Mapping[str, str] | None = None,
) -> pa.Table:
    """The Example table of ``data``.

    data: a path (JSONL, JSON, CSV, TSV, Parquet, Arrow, .gz), a Hub id, a folder with
    examples.parquet, a datasets.Dataset, a pandas or polars frame, an Arrow table or a list of
    Examples. mapping: our column → theirs ({"prompt": "question"}). DataError where the layout
    is not certain or a row is malformed.
    """
    return read_examples(data, layout=layout, split=split, revision=revision, mapping=mapping).table


def read_examples(
    data: Any,
    *,
    layout: str | None = None,
    split: str = "train",
    revision: str | None = None,
    mapping: Mapping[str, str] | None = None,
) -> Loaded:
    """What ``load`` gives, with the layout, its evidence and the counts."""
    if isinstance(data, Sequence) and not isinstance(data, str):
        items = cast(Sequence[Any], data)
        if all(isinstance(item, Example) for item in items):
            data = to_table(cast(Sequence[Example], items), Example)
    rows = rows_of(data, split=split, revision=revision)
    own = None if mapping or layout not in (None, "prefkit") else own_table(rows)
    if own is not None:
        evidence = ("prefkit's own examples, by their schema",)
        everything = range(own.num_rows)
        return Loaded(own, rows.source, "prefkit", evidence, (), own.num_rows, rows=everything)
    if not rows.values:
        raise DataError(f"{rows.source}: no rows", hint="check where they were lost")
    return _read(rows, detect(rows, layout=layout, mapping=mapping))


def rows_of(data: Any, *, split: str = "train", revision: str | None = None) -> Rows:
    """The rows of anything that ``load`` takes."""
    if isinstance(data, str | Path):
        return _rows_at(str(data), split, revision)
    table = _as_arrow(data)
    if table is not None:
        return rows_of_table(table, type(data).__name__)
    if isinstance(data, Sequence) and all(
        isinstance(r, Mapping) for r in cast(Sequence[Any], data)
    ):
        return Rows("list", cast(Sequence[Row], data))
    raise DataError(
        f"cannot load a {type(data).__name__}",
        hint="give a path, a Hub id, a Dataset, a data frame, an Arrow table or Examples",
    )


def _rows_at(name: str, split: str, revision: str | None) -> Rows:
    path = Path(name).expanduser()
    if path.is_dir():
        return _rows_in_folder(path, split)
    if not path.exists() and is_hub_id(name) and not is_row_file(path):
        dataset = load_hub(name, split=split, revision=revision)
        table = _as_arrow(dataset)
        return rows_of_table(cast(pa.Table, table), f"{name} [{split}]")
    return read_rows(path)


def _rows_in_folder(path: Path, split: str) -> Rows:
    if (path / "examples.parquet").is_file():
        return read_rows(path / "examples.parquet")
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        import datasets

        saved = datasets.load_from_disk(str(path))
        chosen: Any = saved[split] if isinstance(saved, datasets.DatasetDict) else saved
        return rows_of_table(cast(pa.Table, _as_arrow(chosen)), str(path))
    raise DataError(
        f"{path}: a folder without examples.parquet",
        hint="name a file in it, or a folder that prefkit curate or Dataset.save_to_disk wrote",
    )


def _as_arrow(data: Any) -> pa.Table | None:
    """Arrow out of a Dataset, a data frame or a table, by the module of its type; else None."""
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    match type(data).__module__.split(".")[0], type(data).__name__:
        case "datasets", "Dataset":
            # with_format("arrow") applies the indices of select() and filter(); .data would not.
            return cast(pa.Table, data.with_format("arrow")[:])
        case "datasets", "DatasetDict" | "IterableDataset" | "IterableDatasetDict":
            raise DataError(
                f"a {type(data).__name__} is not one table", hint="pass one split: data['train']"
            )
        case "pandas", "DataFrame":
            # NaN becomes null: data frames have no other word for a gap.
            return pa.Table.from_pandas(data, preserve_index=False)
        case "polars", "DataFrame":
            return cast(pa.Table, data.to_arrow())
        case "polars", "LazyFrame":
            return cast(pa.Table, data.collect().to_arrow())
        case _:
            return None


def own_table(rows: Rows) -> pa.Table | None:
    """The rows as an Example table without a step through Python, if they are one already."""
    table = rows.table
    if table is None or not set(EXAMPLES.names) <= set(table.column_names):
        return None
    try:
        own = table.select(EXAMPLES.names).cast(EXAMPLES)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return None
    faults = _own_faults(own)
    if faults:
        raise DataError(
            first_faults([f"{rows.source}: {fault}" for fault in faults]),
            hint="mend or leave out these rows",
        )
    p = own.column("p").to_numpy()
    return own if not len(p) or p.min() >= 0.5 else None


def _own_faults(own: pa.Table) -> list[str]:
    """What is wrong with the rows of an Example table, by row and id."""
    ids = own.column("id").to_pylist()
    faults: list[tuple[int, str]] = []
    for name in ("id", "prompt", "chosen", "rejected", "p", "weight"):
        empty = own.column(name).is_null().to_numpy()
        faults += [(i, f"{name} is missing") for i in np.flatnonzero(empty).tolist()]
    ranges = {"p": (0.0, 1.0), "weight": (0.0, INFINITY), "margin": (-INFINITY, INFINITY)}
    for name, (low, high) in ranges.items():
        column = own.column(name).combine_chunks()
        given = column.is_valid().to_numpy(zero_copy_only=False)
        values = column.fill_null(0.5).to_numpy(zero_copy_only=False)
        wrong = given & ~(np.isfinite(values) & (values >= low) & (values <= high))
        expected = "expected 0 to 1" if name == "p" else "expected a finite number"
        expected += " of at least 0" if name == "weight" else ""
        faults += [
            (i, f"{name} is {values[i]:g}; {expected}") for i in np.flatnonzero(wrong).tolist()
        ]
    return [f"row {i + 1} ({ids[i]}): {what}" for i, what in sorted(faults)]


def _read(rows: Rows, found: Detected) -> Loaded:
    read = read_each(
        rows, found, lambda sides, values, index: build_example(sides, values, rows, index)
    )
    examples = [example for example, _ in read.items]
    return Loaded(
        to_table(examples, Example),
        rows.source,
        found.layout.name,
        found.evidence,
        found.unused,
        len(rows.values),
        sum(flipped for _, flipped in read.items),
        sum(len(e.chosen) > 1 or len(e.rejected) > 1 for e in examples),
        read.unusable,
        read.kept,
    )


@dataclass(frozen=True, slots=True)
class ReadEach(Generic[T]):
    """What became of each row: items with their rows' indices, (place, reason) of the others."""

    items: list[T]
    kept: list[int]
    unusable: tuple[tuple[str, str], ...]


def read_each(
    rows: Rows, found: Detected, build: Callable[[Any, Mapping[str, Any], int], T]
) -> ReadEach[T]:
    """Every row read by the layout and built: ``build(what the layout gives, columns, index)``.

    DataError names the first five malformed rows with their places.
    """
    items: list[T] = []
    kept: list[int] = []
    unusable: list[tuple[str, str]] = []
    faults: list[str] = []
    for index, row in enumerate(rows.values):
        values = {ours: row.get(theirs) for ours, theirs in found.columns.items()}
        try:
            items.append(build(found.layout.read(values), values, index))
            kept.append(index)
        except Unusable as reason:
            unusable.append((rows.place(index), str(reason)))
        except (ValueError, KeyError, TypeError) as error:
            faults.append(f"{rows.place(index)}: {error}")
    if faults:
        raise DataError(first_faults(faults), hint="mend or leave out these rows")
    return ReadEach(items, kept, tuple(unusable))


def asks_nothing(prompt: Messages) -> bool:
    """Whether a prompt has no turn, or only blank text."""
    return all(
        part.kind == "text" and not (part.text or "").strip()
        for message in prompt
        for part in message.parts
    )


def label_numbers(
    row: Mapping[str, Any], *, texts: bool
) -> tuple[float | None, float | None, float | None]:
    """p, weight and margin of a row, None for each that is not given. texts: as in Rows."""
    return (
        number_value(row.get("p"), "p", low=0.0, high=1.0, texts=texts),
        number_value(row.get("weight"), "weight", low=0.0, high=INFINITY, texts=texts),
        number_value(row.get("margin"), "margin", low=-INFINITY, high=INFINITY, texts=texts),
    )


def build_example(
    sides: Sides, row: Mapping[str, Any], rows: Rows, index: int
) -> tuple[Example, bool]:
    if not sides.chosen or not sides.rejected:
        raise ValueError(f"{'chosen' if not sides.chosen else 'rejected'} has no messages")
    if asks_nothing(sides.prompt):
        raise Unusable("empty prompt")
    tags = tags_value(row.get("tags"))
    prompt = Prompt.make(sides.prompt, tools=sides.tools, source=Path(rows.source).name, tags=tags)
    p, weight, margin = label_numbers(row, texts=rows.texts)
    evidence = _text_or_none(row.get("evidence")) or _provenance(row, rows, index)
    votes = _text_or_none(row.get("votes"))
    if votes is not None and p is not None and p < 0.5:
        votes, evidence = of_other_side(votes, evidence)
    return Example.make(
        prompt,
        sides.chosen,
        sides.rejected,
        p=1.0 if p is None else p,
        weight=1.0 if weight is None else weight,
        margin=margin,
        votes=votes,
        tags=tags,
        evidence=evidence,
    )


def of_other_side(votes: str, evidence: str | None) -> tuple[str, str]:
    """Votes and evidence of a row whose sides are swapped: chosen is now the other slot.

    ValueError for what is not JSON, and for evidence that is not an object.
    """
    facts: Any = json.loads(evidence) if evidence else {}
    if not isinstance(facts, dict):
        raise ValueError("evidence is not a JSON object, and the row's votes need its chosen_slot")
    slot = "a" if facts.get("chosen_slot") == "b" else "b"
    turned: Any = json.loads(votes)
    other = {"chosen": "rejected", "rejected": "chosen"}
    if isinstance(turned, list):
        turned = [
            vote | {"choice": other[vote["choice"]]}
            if isinstance(vote, dict) and vote.get("choice") in other
            else vote
            for vote in turned
        ]
    dump = json.dumps
    return dump(turned, ensure_ascii=False), dump(
        {**facts, "chosen_slot": slot}, ensure_ascii=False
    )


def _text_or_none(value: Any) -> str | None:
    if is_missing(value) or value == "":
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _provenance(row: Mapping[str, Any], rows: Rows, index: int) -> str:
    """Where a row of a foreign file stood: the file's name, its line or row, its own id."""
    number = rows.lines[index] if rows.lines is not None else index + 1
    origin: dict[str, Any] = {"file": Path(rows.source).name, "row": number}
    if not is_missing(row.get("id")):
        origin["id"] = str(row["id"])
    return json.dumps(origin, ensure_ascii=False)
