"""Potato's annotations: its output folder, annotated_instances.jsonl or annotations.jsonl.

annotated_instances.jsonl (Potato 1) has id, displayed_text, label_annotations, and the user in the
name of its folder; annotations.jsonl (``python -m potato.export --format jsonl``, Potato 2.12) has
instance_id, user_id and labels. Both were checked against files in Potato's repository and its
code; a pairwise answer is {"selection": "A"}, {"scale_value": "-2"}, or the one label that was
clicked. The texts are in the file that Potato was given (--items).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from prefkit.core.errors import DataError
from prefkit.formats.imports.source import (
    Asked,
    Judgement,
    Level,
    Source,
    milliseconds,
    the_question,
)
from prefkit.formats.rows import Rows, read_rows

Record = Mapping[str, Any]
FILES = ("annotated_instances.jsonl", "annotations.jsonl")
_LISTS = ("responses", "text", "items", "texts")
_SHOWN = re.compile(r"A\. (?P<a>.*?)<br>\s*B\. (?P<b>.*)", re.DOTALL)
_MORE = re.compile(r"<br>\s*C\. ")
_SPENT = re.compile(r"(\d+)d (\d+)h (\d+)m (\d+)s")
_CLICKED = ("true", "on", "yes", "1")


def is_potato(rows: Rows) -> bool:
    """Whether rows are annotations of one of the two versions."""
    names = set(rows.columns)
    return {"id", "label_annotations"} <= names or {"instance_id", "labels"} <= names


def potato_folder(folder: Path) -> Rows | None:
    """The annotations of all users in an output folder; None where it holds none."""
    paths = sorted(path for name in FILES for path in folder.rglob(name))
    values: list[Record] = []
    places: list[str] = []
    for path in paths:
        if not path.read_bytes().strip():
            continue  # a user who has not begun
        rows = read_rows(path)
        # The file of all users repeats what stands in theirs, without saying whose it is.
        if path.parent == folder and path.name == FILES[0] and len(paths) > 1:
            continue
        values += [{"user_id": path.parent.name, **row} for row in rows.values]
        places += [rows.place(index) for index in range(len(rows.values))]
    return Rows(str(folder), values, places=places) if values else None


def read_potato(rows: Rows, asked: Asked) -> Source:
    """The items as rows, and every user's answer to the comparing schema."""
    question = the_question(_schemas(rows), asked, rows.source)
    items = _Items(asked.items, asked.mapping)
    source = Source(Rows(rows.source, items.values, places=items.places), "potato")
    for index, row in enumerate(rows.values):
        place = rows.place(index)
        try:
            _read_row(row, place, rows, items, question, asked, source)
        except (ValueError, TypeError, KeyError) as error:
            source.faults.append((place, str(error)))
    source.bad_rows |= items.add_rest()
    return source


def _read_row(
    row: Record,
    place: str,
    rows: Rows,
    items: _Items,
    question: str,
    asked: Asked,
    source: Source,
) -> None:
    labels = _labels(row)
    answer = labels.get(question)
    if not isinstance(answer, Mapping) or not answer:
        source.left_out.append((place, f"no answer to {question}"))
        return
    reason = labels.get(asked.rationale or "")
    words = [str(text) for text in reason.values() if text] if isinstance(reason, Mapping) else []
    behaviour = row.get("behavioral_data")
    spent = behaviour.get("time_string") if isinstance(behaviour, Mapping) else None
    source.judgements.append(
        Judgement(
            items.number(row, place),
            place,
            _rater(row, rows),
            _said(cast(Record, answer)),
            active_ms=_spent(spent),
            rationale="\n".join(words) or None,
        )
    )


def _said(answer: Record) -> str | Level:
    if "selection" in answer:
        return str(answer["selection"])
    if "scale_value" in answer:
        return Level(float(answer["scale_value"]))
    if len(answer) != 1:
        raise ValueError(f"{len(answer)} labels ({', '.join(map(str, answer))}); expected one")
    ((name, value),) = answer.items()
    clicked = str(value).strip().lower() in (*_CLICKED, str(name).strip().lower())
    return str(name) if clicked or value is True else str(value)


def _labels(row: Record) -> Record:
    found = row["label_annotations"] if "label_annotations" in row else row["labels"]
    if not isinstance(found, Mapping):
        raise ValueError(f"the labels are {found!r}; expected an object, one key a schema")
    return cast(Record, found)


def _schemas(rows: Rows) -> Iterator[str]:
    """The schemas that say one of two: all that are no free text."""
    for row in rows.values:
        labels = row.get("label_annotations", row.get("labels"))
        if isinstance(labels, Mapping):
            for name, answer in cast(Record, labels).items():
                if (
                    isinstance(answer, Mapping)
                    and not {"text_box", "textbox_input"} & answer.keys()
                ):
                    yield name


def _rater(row: Record, rows: Rows) -> str:
    """The user: said by the row, else the name of the file's folder."""
    for name in ("user_id", "user", "username"):
        if isinstance(row.get(name), str) and row[name]:
            return cast(str, row[name])
    if Path(rows.source).name == FILES[0]:
        return Path(rows.source).resolve().parent.name
    raise ValueError("the row says no user, and the file's name is not annotated_instances.jsonl")


def _spent(text: Any) -> int | None:
    found = _SPENT.search(text) if isinstance(text, str) else None
    if found is None:
        return None
    days, hours, minutes, seconds = map(int, found.groups())
    return milliseconds(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


class _Items:
    """The pairs that were shown, by the id of their item; values and places of each."""

    def __init__(self, given: Rows | None, mapping: Mapping[str, str]) -> None:
        self.values: list[Record] = []
        self.places: list[str] = []
        self._number: dict[str, int] = {}
        self._given: dict[str, tuple[Record, str]] = {}
        self._mapping = mapping
        if given is not None:
            if "id" not in given.columns:
                raise DataError(f"{given.source}: no column 'id'", hint="--items is Potato's own")
            for index, row in enumerate(given.values):
                self._given[str(row.get("id"))] = row, given.place(index)

    def number(self, row: Record, place: str) -> int:
        """The number of the row's item; ValueError where its two texts are not known."""
        key = str(row["id"] if "id" in row else row["instance_id"])
        if key not in self._number:
            value, found_at = self._item(key, row, place)
            self._number[key] = len(self.values)
            self.values.append(value)
            self.places.append(found_at)
        return self._number[key]

    def add_rest(self) -> dict[int, str]:
        """Add the given items that nobody has judged; what is wrong with which, by its number."""
        bad: dict[int, str] = {}
        for key, (item, found_at) in self._given.items():
            if key in self._number:
                continue
            try:
                value = self._split(item)
            except ValueError as error:
                bad[len(self.values)] = str(error)
                value = {}
            self.values.append(value)
            self.places.append(f"{found_at} (item {key})")
        return bad

    def _item(self, key: str, row: Record, place: str) -> tuple[Record, str]:
        if key in self._given:
            item, found_at = self._given[key]
            return self._split(item), f"{found_at} (item {key})"
        if self._given:
            raise ValueError(f"item {key} is not in the file of items")
        shown = row.get("displayed_text")
        found = _SHOWN.fullmatch(shown.strip()) if isinstance(shown, str) else None
        if found is None or _MORE.search(found["b"]):
            raise ValueError(
                f"item {key}: its two texts are not here; name Potato's data file: --items FILE"
            )
        return {"a": found["a"], "b": found["b"]}, place

    def _split(self, item: Record) -> Record:
        """The item with its list of two as a and b; left and right are such names too."""
        named = {"a", "b"} <= self._mapping.keys()
        lists = [n for n in _LISTS if isinstance(item.get(n), list)]
        if named or not lists:
            sides = {"left", "right"} <= item.keys() and not named
            return {**item, "a": item["left"], "b": item["right"]} if sides else item
        texts = cast(Sequence[Any], item[lists[0]])
        if len(texts) != 2:
            raise ValueError(f"{lists[0]} has {len(texts)} items; expected two")
        rest = {name: value for name, value in item.items() if name != lists[0]}
        return {**rest, "a": texts[0], "b": texts[1]}
