"""Pairs to label: a prompt and two answers a row, whatever the columns are called.

Sides are loaded blind: a slot is the lower completion id, so ``chosen`` may be either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa

from prefkit.core.errors import DataError
from prefkit.core.records import Comparison, Completion, Message, Messages, Prompt
from prefkit.formats.detect import detect, resolve_columns
from prefkit.formats.layouts import PAIRS, Sides, Unusable
from prefkit.formats.prompts import prompt_of
from prefkit.formats.rows import Row, Rows, read_rows
from prefkit.formats.schema import COMPARISONS, from_table
from prefkit.formats.values import is_missing, kind_of, messages_value, tags_value


@dataclass(frozen=True, slots=True)
class Pair:
    """A row as a comparison. first: the slot of the answer that the row names first."""

    comparison: Comparison
    first: Literal["a", "b"]


def load_comparisons(
    path: str | Path, *, mapping: Mapping[str, str] | None = None
) -> list[Comparison]:
    """The comparisons of a file; what ``read_comparisons`` gives without the counts."""
    return read_comparisons(path, mapping=mapping)[0]


def read_comparisons(
    path: str | Path, *, mapping: Mapping[str, str] | None = None
) -> tuple[list[Comparison], dict[str, int]]:
    """The comparisons of a file and the counts; n_read is the sum of the others.

    Rows have a prompt and two answers (text or messages) under one of the names of ``PAIRS``, or
    any preference layout, read blind. prefkit's own comparisons.parquet keeps its ids. Columns
    model_a and model_b, where given, name the writers. Rows with two identical answers, an
    empty answer on both sides, or a pair seen before are left out and counted; DataError where
    none remains.
    """
    path = Path(path).expanduser()
    return read_comparisons_of(read_rows(path), origin=path.name, mapping=mapping)


def read_comparisons_of(
    rows: Rows, *, origin: str, mapping: Mapping[str, str] | None = None
) -> tuple[list[Comparison], dict[str, int]]:
    """As ``read_comparisons``, of rows that were read already."""
    if rows.table is not None and set(COMPARISONS.names) <= set(rows.table.column_names):
        return _own(rows)
    found, counts = comparisons_of(rows, origin=origin, mapping=mapping)
    if not found:
        del counts["n_read"]
        reasons = ", ".join(f"{n} {reason}" for reason, n in counts.items() if n)
        raise DataError(f"{rows.source}: no pair to compare: {reasons}")
    return found, counts


def comparisons_of(
    rows: Rows, *, origin: str, mapping: Mapping[str, str] | None = None
) -> tuple[list[Comparison], dict[str, int]]:
    """As ``read_comparisons_of``, but for prefkit's own tables; the list may be empty."""
    read = pair_reader(rows, origin=origin, mapping=mapping)
    counts: Counter[str] = Counter(n_read=len(rows.values), n_repeated=0)
    found: dict[str, Comparison] = {}
    for index, row in enumerate(rows.values):
        try:
            comparison = read(row).comparison
        except Unusable as reason:
            counts[str(reason)] += 1
            continue
        except (ValueError, KeyError, TypeError) as error:
            raise rows.fault(index, str(error)) from None
        counts["n_repeated"] += comparison.id in found
        found.setdefault(comparison.id, comparison)
    counts["n_comparisons"] = len(found)
    return list(found.values()), dict(counts)


def read_gold(path: str | Path) -> list[tuple[Comparison, Literal["a", "b"]]]:
    """Pairs whose better answer is known, each with the slot of that answer.

    Rows as ``read_comparisons`` takes them; a column ``choice`` (a or b) names the better of the
    two answers, and may be left out where they are called chosen and rejected. Raises DataError
    for a row that cannot be used: a gold item that is not there would not be missed.
    """
    path = Path(path).expanduser()
    rows = read_rows(path)
    read = pair_reader(rows, origin=path.name)
    default = "a" if {"chosen", "rejected"} <= set(rows.columns) else None
    found: dict[str, tuple[Comparison, Literal["a", "b"]]] = {}
    for index, row in enumerate(rows.values):
        choice = row.get("choice", default)
        if choice not in ("a", "b"):
            raise rows.fault(index, f"choice is {choice!r}; expected a or b")
        try:
            pair = read(row)
        except (Unusable, ValueError, KeyError, TypeError) as error:
            raise rows.fault(index, str(error)) from None
        other: Literal["a", "b"] = "b" if pair.first == "a" else "a"
        better = pair.first if choice == "a" else other
        found[pair.comparison.id] = pair.comparison, better
    return list(found.values())


def pair_reader(
    rows: Rows,
    *,
    origin: str,
    mapping: Mapping[str, str] | None = None,
    pairs: Sequence[tuple[str, str]] = PAIRS,
) -> Callable[[Row], Pair]:
    """How one of ``rows`` becomes a comparison; DataError where their columns do not say.

    pairs: the names that the two answers may have. What is returned raises Unusable for a row
    that is no pair, and ValueError, KeyError or TypeError for one that is malformed.
    """
    read = _reader(rows, mapping, pairs)

    def pair_of(row: Row) -> Pair:
        sides, tags, models = read(row)
        comparison = _comparison(sides, tags, models, origin)
        return Pair(comparison, "a" if comparison.a.messages == sides.chosen else "b")

    return pair_of


_Read = Callable[[Row], tuple[Sides, dict[str, str], tuple[str, str]]]


def _reader(
    rows: Rows, mapping: Mapping[str, str] | None, names_of_pairs: Sequence[tuple[str, str]]
) -> _Read:
    """How one row becomes two answers, its tags and the names of the models that wrote them."""
    columns = resolve_columns(rows, mapping or {})
    pairs = [pair for pair in names_of_pairs if set(pair) <= columns.keys()]
    labelled = {"chosen", "rejected"} <= columns.keys()
    if len(pairs) + labelled > 1:
        names = [" and ".join(pair) for pair in pairs] + ["chosen and rejected"] * labelled
        raise DataError(
            f"{rows.source}: the two answers may be {' or '.join(names)}",
            hint="leave one pair out, for example --map chosen= --map rejected=",
        )
    if pairs and "prompt" in columns:
        return lambda row: _read_pair(row, columns, pairs[0], rows.source)
    if not labelled:
        raise DataError(
            f"{rows.source}: no prompt with two answers (columns: {', '.join(rows.columns)})",
            hint="name them: --map prompt=COLUMN --map a=COLUMN --map b=COLUMN",
        )
    layout = detect(rows, mapping=mapping)

    def read(row: Row) -> tuple[Sides, dict[str, str], tuple[str, str]]:
        values = {ours: row.get(theirs) for ours, theirs in layout.columns.items()}
        return layout.layout.read(values), tags_value(values.get("tags")), ("", "")

    return read


def _read_pair(
    row: Row, columns: Mapping[str, str], pair: tuple[str, str], source: str
) -> tuple[Sides, dict[str, str], tuple[str, str]]:
    values = {ours: row.get(theirs) for ours, theirs in columns.items()}
    prompt = prompt_of(values, source=source)
    sides = Sides(prompt.messages, _answer(values, pair[0]), _answer(values, pair[1]), prompt.tools)
    models = tuple("" if is_missing(m) else str(m) for m in map(values.get, ("model_a", "model_b")))
    return sides, dict(prompt.tags), cast(tuple[str, str], models)


def _answer(row: Mapping[str, Any], column: str) -> Messages:
    value = row[column]
    if isinstance(value, str):
        return (Message.of("assistant", value),)
    messages = messages_value(value, column)
    if kind_of(value) != "answer":
        raise ValueError(f"{column} does not begin with an assistant turn; give the answer alone")
    return messages


def _comparison(
    sides: Sides, tags: dict[str, str], models: tuple[str, str], source: str
) -> Comparison:
    if not any(part.text or part.path for message in sides.prompt for part in message.parts):
        raise Unusable("empty prompt")
    if sides.chosen == sides.rejected:
        raise Unusable("identical answers")
    prompt = Prompt.make(sides.prompt, tools=sides.tools, source=source, tags=tags)
    one = Completion.make(prompt.id, sides.chosen, models[0])
    other = Completion.make(prompt.id, sides.rejected, models[1])
    if _is_empty(one) and _is_empty(other):
        raise Unusable("both answers empty")
    return Comparison.make(prompt, one, other, origin=source)


def _is_empty(answer: Completion) -> bool:
    """No text, and no image, audio or tool call either."""
    others = any(m.tool_calls or any(part.path for part in m.parts) for m in answer.messages)
    return not others and not answer.text.strip()


def _own(rows: Rows) -> tuple[list[Comparison], dict[str, int]]:
    assert rows.table is not None
    try:
        table = rows.table.select(COMPARISONS.names).cast(COMPARISONS)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise DataError(f"{rows.source}: not prefkit's comparisons: {error}") from None
    for name in ("id", "prompt", "a", "b"):
        if table.column(name).null_count:
            raise DataError(f"{rows.source}: column {name!r} has rows without a value")
    found = {c.id: c for c in from_table(table, Comparison)}
    n = {"n_read": table.num_rows, "n_repeated": table.num_rows - len(found)}
    return list(found.values()), {**n, "n_comparisons": len(found)}
