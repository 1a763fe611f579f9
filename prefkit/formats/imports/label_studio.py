"""Label Studio's JSON export: a list of tasks with data and annotations.

Checked against label-studio's editor (Pairwise.js: value.selected is left or right, the first
name of toName is the left one) and https://labelstud.io/guide/task_format; no export of a running
server was at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from prefkit.core.errors import DataError
from prefkit.formats.imports.source import (
    Asked,
    Judgement,
    Source,
    milliseconds,
    moment,
    the_question,
)
from prefkit.formats.rows import Rows

_COMPARING = ("pairwise", "choices")
_FLAT = {"annotation_id", "annotator"}
Record = Mapping[str, Any]


def is_label_studio(rows: Rows) -> bool:
    """Tasks have their columns under ``data`` and their labels under ``annotations``, or all in one
    row, as JSON-MIN and CSV have them.
    """
    names = set(rows.columns)
    return {"data", "annotations"} <= names or names >= _FLAT


def read_label_studio(rows: Rows, asked: Asked) -> Source:
    """The tasks' data as rows, and every annotation's answer to the comparing question.

    A cancelled annotation is a skip. Predictions are a model's and are not read. DataError for
    JSON-MIN and CSV: which of their columns is an answer they do not say.
    """
    if {"data", "annotations"} - set(rows.columns) and set(rows.columns) >= _FLAT:
        raise DataError(
            f"{rows.source}: Label Studio's JSON-MIN or CSV, where answers are columns like others",
            hint="export as JSON; or take the pairs alone, without their votes: --from pairs",
        )
    places = [_place(rows, index) for index in range(len(rows.values))]
    values = [
        cast(Record, row["data"]) if isinstance(row.get("data"), Mapping) else {}
        for row in rows.values
    ]
    source = Source(Rows(rows.source, values, places=places), _name(rows))
    names = list(_questions(rows))
    # Tasks that nobody has labelled yet are pairs all the same.
    is_labelled = any(row.get("annotations") for row in rows.values)
    question = the_question(names, asked, rows.source) if is_labelled else ""
    for index, row in enumerate(rows.values):
        if not isinstance(row.get("data"), Mapping):
            source.bad_rows[index] = f"data is {row.get('data')!r}; expected an object"
            continue
        try:
            annotations = _objects(row.get("annotations"), "annotations")
        except ValueError as error:
            source.faults.append((places[index], str(error)))
            continue
        for annotation in annotations:
            place = f"{places[index]}, annotation {annotation.get('id', '?')}"
            try:
                _read_annotation(annotation, index, place, question, asked, source)
            except (ValueError, TypeError, KeyError) as error:
                source.faults.append((place, str(error)))
    return source


def _read_annotation(
    annotation: Record, row: int, place: str, question: str, asked: Asked, source: Source
) -> None:
    given = _objects(annotation.get("result"), "result")
    results = [result for result in given if result.get("from_name") == question]
    said: str | None = None
    if not annotation.get("was_cancelled"):
        if not results:
            source.left_out.append((place, f"no answer to {question}"))
            return
        said = _said(results)
    source.judgements.append(
        Judgement(
            row,
            place,
            _rater(annotation.get("completed_by")),
            said,
            moment(annotation.get("updated_at") or annotation.get("created_at"), "updated_at"),
            milliseconds(annotation.get("lead_time")),
            _rationale(given, asked.rationale),
        )
    )


def _said(results: Sequence[Record]) -> str:
    if len(results) > 1:
        raise ValueError(f"{len(results)} answers to one question")
    value = results[0].get("value")
    fields = cast(Record, value) if isinstance(value, Mapping) else {}
    if results[0].get("type") == "pairwise":
        selected = fields.get("selected")
        if selected not in ("left", "right"):
            raise ValueError(f"selected is {selected!r}; expected left or right")
        return cast(str, selected)
    choices = fields.get("choices")
    if not isinstance(choices, list) or len(cast(list[Any], choices)) != 1:
        raise ValueError(f"choices is {choices!r}; expected one choice")
    return str(cast(list[Any], choices)[0])


def _rationale(results: Sequence[Record], name: str | None) -> str | None:
    """The text of the TextArea ``name``."""
    for result in results:
        value = result.get("value")
        if name is not None and result.get("from_name") == name and isinstance(value, Mapping):
            text = cast(Record, value).get("text")
            lines = cast(list[Any], text) if isinstance(text, list) else [text]
            return "\n".join(str(line) for line in lines if line) or None
    return None


def _rater(completed_by: Any) -> str:
    """A user's number: an export gives it alone or with the address, and both are one person."""
    if isinstance(completed_by, Mapping):
        completed_by = cast(Record, completed_by).get("id")
    if isinstance(completed_by, bool) or not isinstance(completed_by, int | str):
        raise ValueError(f"completed_by is {completed_by!r}; expected a user")
    return f"user {completed_by}"


def _questions(rows: Rows) -> Iterator[str]:
    for row in rows.values:
        for annotation in _those_that_are(row.get("annotations")):
            for result in _those_that_are(annotation.get("result")):
                if result.get("type") in _COMPARING:
                    yield str(result.get("from_name"))


def _name(rows: Rows) -> str:
    """Another export of the same project is the same source; file names have dates in them."""
    projects = {str(row["project"]) for row in rows.values if row.get("project") is not None}
    only = projects.pop() if len(projects) == 1 else None
    return "label-studio" if only is None else f"label-studio project {only}"


def _place(rows: Rows, index: int) -> str:
    number = rows.values[index].get("id")
    return rows.place(index) if number is None else f"{rows.place(index)} (task {number})"


def _objects(value: Any, what: str) -> list[Record]:
    """The objects of a list; [] where it is missing, ValueError for anything else."""
    if value is None:
        return []
    found = _those_that_are(value)
    if not isinstance(value, list | tuple) or len(found) < len(cast(Sequence[Any], value)):
        raise ValueError(f"{what} is {value!r:.60}; expected a list of objects")
    return found


def _those_that_are(value: Any) -> list[Record]:
    """The objects in a list, [] of what is none: to look before anything is judged."""
    if not isinstance(value, list | tuple):
        return []
    return [cast(Record, item) for item in cast(Sequence[Any], value) if isinstance(item, Mapping)]
