"""Argilla's records as a data set: ``dataset.records(...).to_datasets()``, saved or on the Hub.

A question Q is three columns, Q.responses, Q.responses.users and Q.responses.status, one item a
user (argilla 2.8, records/_io/_generic.py); a FeedbackDataset of argilla 1 has one column of
{user_id, value, status}. ``records.to_json()`` has no status, so drafts in it look like answers:
it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from prefkit.core.errors import DataError
from prefkit.formats.imports.source import Asked, Judgement, Ranks, Source, the_question
from prefkit.formats.rows import Rows
from prefkit.formats.values import is_missing

_RESPONSES = ".responses"
_STATUSES = ("submitted", "discarded", "draft")
_KEYS = {"user_id", "value", "status"}
Answer = tuple[str, Any, str | None]  # user, value, status


def is_argilla(rows: Rows) -> bool:
    """Whether some column holds responses."""
    return bool(_questions(rows)) or _is_nested(rows)


def read_argilla(rows: Rows, asked: Asked) -> Source:
    """The fields as rows, and each user's response to the comparing question.

    submitted is a vote, discarded a skip, a draft is left out. Suggestions are not read. A response
    carries no time.
    """
    if _is_nested(rows):
        raise DataError(
            f"{rows.source}: responses without their status, as records.to_json() writes them: "
            "drafts cannot be told from answers",
            hint="export with records(with_responses=True).to_datasets() and save that",
        )
    question = the_question(_questions(rows), asked, rows.source)
    places = [_place(rows, index) for index in range(len(rows.values))]
    source = Source(Rows(rows.source, rows.values, places=places), "argilla")
    for index, row in enumerate(rows.values):
        try:
            answers = _answers(row, question)
            reasons = {} if asked.rationale is None else _texts(row, asked.rationale)
        except (ValueError, TypeError, KeyError) as error:
            source.faults.append((places[index], str(error)))
            continue
        for answer in answers:
            _read_answer(answer, index, places[index], reasons, source)
    return source


def _read_answer(
    answer: Answer, row: int, row_place: str, reasons: Mapping[str, str], source: Source
) -> None:
    user, value, status = answer
    place = f"{row_place}, user {user}"
    if status == "draft":
        source.left_out.append((place, "a draft"))
        return
    if status not in _STATUSES:
        known = ", ".join(_STATUSES)
        source.faults.append((place, f"status is {status!r}; expected {known}"))
        return
    try:
        said = None if status == "discarded" else _said(value)
    except (ValueError, TypeError, KeyError) as error:
        source.faults.append((place, str(error)))
        return
    rater = f"user {user}"
    source.judgements.append(Judgement(row, place, rater, said, rationale=reasons.get(user)))


def _questions(rows: Rows) -> list[str]:
    modern = [name.removesuffix(_RESPONSES) for name in rows.columns if name.endswith(_RESPONSES)]
    return modern or [name for name in rows.columns if _is_old_column(rows, name)]


def _is_old_column(rows: Rows, name: str) -> bool:
    for row in rows.values:
        cell = row.get(name)
        if isinstance(cell, list) and cell:
            first = cast(list[Any], cell)[0]
            return isinstance(first, Mapping) and cast(Mapping[str, Any], first).keys() >= _KEYS
        if not (is_missing(cell) or cell == []):
            return False  # of a table of texts no more than the first row is looked at
    return False


def _is_nested(rows: Rows) -> bool:
    return {"fields", "responses", "suggestions"} <= set(rows.columns)


def _answers(row: Mapping[str, Any], question: str) -> list[Answer]:
    cells = row.get(question)
    if isinstance(cells, list):
        old = [cast(Mapping[str, Any], cell) for cell in cast(list[Any], cells)]
        return [(str(cell["user_id"]), cell["value"], cell["status"]) for cell in old]
    column = f"{question}{_RESPONSES}"
    values, users, statuses = (
        _list(row.get(name), name) for name in (column, f"{column}.users", f"{column}.status")
    )
    if not len(values) == len(users) == len(statuses):
        raise ValueError(
            f"{column}: {len(values)} values, {len(users)} users and {len(statuses)} statuses"
        )
    return [(str(u), v, s) for u, v, s in zip(users, values, statuses, strict=True)]


def _texts(row: Mapping[str, Any], question: str) -> dict[str, str]:
    return {
        user: value
        for user, value, status in _answers(row, question)
        if status == "submitted" and isinstance(value, str) and value.strip()
    }


def _list(value: Any, column: str) -> list[Any]:
    if is_missing(value):
        return []
    if not isinstance(value, list | tuple):
        raise ValueError(f"{column} is {value!r}; expected a list, one item a user")
    return list(cast(Sequence[Any], value))


def _said(value: Any) -> str | Ranks:
    """A label, a rating as a word, or a ranking: names best first, or {value, rank} of each."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if isinstance(value, Mapping):  # a list of {value, rank} as Arrow may turn it round
        fields = cast(Mapping[str, Any], value)
        pairs = zip(fields["value"], fields["rank"], strict=True)
        return Ranks(tuple((str(name), float(rank)) for name, rank in pairs))
    if not isinstance(value, list) or not value:
        raise ValueError(f"the response is {value!r}; expected a label or a ranking")
    items = cast(list[Any], value)
    if all(isinstance(item, Mapping) for item in items):
        return Ranks(tuple((str(item["value"]), float(item["rank"])) for item in items))
    return Ranks(tuple((str(item), float(n)) for n, item in enumerate(items, start=1)))


def _place(rows: Rows, index: int) -> str:
    number = rows.values[index].get("id")
    return rows.place(index) if is_missing(number) else f"{rows.place(index)} (record {number})"
