"""Label Studio's JSON export: a list of tasks with data and annotations.

Checked against label-studio's editor (Pairwise.js: value.selected is left or right, the first
name of toName is the left one) and https://labelstud.io/guide/task_format; no export of a running
server was at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

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
Record = Mapping[str, Any]


def is_label_studio(rows: Rows) -> bool:
    """Tasks have their columns under ``data`` and their labels under ``annotations``."""
    return {"data", "annotations"} <= set(rows.columns)


def read_label_studio(rows: Rows, asked: Asked) -> Source:
    """The tasks' data as rows, and every annotation's answer to the comparing question.

    A cancelled annotation is a skip. Predictions are a model's and are not read.
    """
    places = [_place(rows, index) for index in range(len(rows.values))]
    values = [
        cast(Record, row["data"]) if isinstance(row.get("data"), Mapping) else {}
        for row in rows.values
    ]
    source = Source(Rows(rows.source, values, places=places), _name(rows))
    question = the_question(_questions(rows), asked, rows.source)
    for index, row in enumerate(rows.values):
        if not isinstance(row.get("data"), Mapping):
            source.bad_rows[index] = f"data is {row.get('data')!r}; expected an object"
            continue
        for annotation in _objects(row.get("annotations")):
            place = f"{places[index]}, annotation {annotation.get('id', '?')}"
            try:
                _read_annotation(annotation, index, place, question, asked, source)
            except (ValueError, TypeError, KeyError) as error:
                source.faults.append((place, str(error)))
    return source


def _read_annotation(
    annotation: Record, row: int, place: str, question: str, asked: Asked, source: Source
) -> None:
    results = [r for r in _objects(annotation.get("result")) if r.get("from_name") == question]
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
            _rationale(annotation, asked.rationale),
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


def _rationale(annotation: Record, name: str | None) -> str | None:
    """The text of the TextArea ``name``."""
    for result in _objects(annotation.get("result")):
        if name is not None and result.get("from_name") == name:
            text = cast(Record, result.get("value") or {}).get("text")
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
        for annotation in _objects(row.get("annotations")):
            for result in _objects(annotation.get("result")):
                if result.get("type") in _COMPARING:
                    yield str(result.get("from_name"))


def _name(rows: Rows) -> str:
    """Another export of the same project is the same source; file names have dates in them."""
    projects = {row.get("project") for row in rows.values}
    only = projects.pop() if len(projects) == 1 else None
    return "label-studio" if only is None else f"label-studio project {only}"


def _place(rows: Rows, index: int) -> str:
    number = rows.values[index].get("id")
    return rows.place(index) if number is None else f"{rows.place(index)} (task {number})"


def _objects(value: Any) -> list[Record]:
    if not isinstance(value, list | tuple):
        return []
    return [cast(Record, item) for item in cast(Sequence[Any], value) if isinstance(item, Mapping)]
