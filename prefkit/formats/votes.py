"""Votes out of a file: prefkit's own Parquet, or JSONL and CSV of the same columns."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefkit.core.ids import content_id
from prefkit.core.records import CHOICES, Vote
from prefkit.formats.rows import read_rows
from prefkit.formats.schema import VOTES, from_row
from prefkit.formats.values import is_missing, number_value, tags_value, text_value

RATER_KINDS = ("human", "judge", "reward", "rule")
NO_RATER = "unknown"
_TEXTS = (
    "id", "task_id", "comparison_id", "rater", "rationale", "edit", "replaces", "guideline_version",
)  # fmt: skip
_MOST_MS = 2**53  # beyond it a float is not exact, and Arrow's int64 soon overflows


def load_votes(path: str | Path) -> list[Vote]:
    """The votes of a file; DataError by row.

    comparison_id and choice are needed. rater is "unknown", rater_kind "human", task_id the
    comparison's and ``at`` the time of the Unix epoch where they are not given; an id that is
    not given is made of the file's name and what the row says, so that reading twice gives the
    same votes, and another row gives another one.
    """
    path = Path(path).expanduser()
    rows = read_rows(path)
    votes: list[Vote] = []
    alike: Counter[str] = Counter()
    for index, row in enumerate(rows.values):
        try:
            values = _values(row)
            if values["id"] is None:
                said = json.dumps([path.name, {**values, "at": values["at"].isoformat()}])
                alike[said] += 1
                values["id"] = content_id([said, alike[said]])
            votes.append(from_row(values, Vote))
        except (ValueError, TypeError) as error:
            raise rows.fault(index, str(error)) from None
    return votes


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values by the names of VOTES; id is None where it is not given."""
    given = {name: row.get(name) for name in VOTES.names}
    values: dict[str, Any] = {
        name: None if is_missing(value) or value == "" else value for name, value in given.items()
    }
    for name in _TEXTS:
        value = values[name]
        if value is not None:  # a rater or an id may be a number
            values[name] = str(value) if type(value) is int else text_value(value, name)
    if values["comparison_id"] is None:
        raise ValueError("comparison_id is missing")
    _one_of(values, "choice", CHOICES)
    values["rater_kind"] = values["rater_kind"] or "human"
    _one_of(values, "rater_kind", RATER_KINDS)
    if values["shown_first"] is not None:
        _one_of(values, "shown_first", ("a", "b"))
    strength = number_value(values["strength"], "strength", low=0, high=3, texts=True)
    if strength is not None and strength != int(strength):
        raise ValueError(f"strength is {strength:g}; expected 0, 1, 2 or 3")
    values["strength"] = None if strength is None else int(strength)
    for name in ("p_a", "confidence"):
        values[name] = number_value(values[name], name, low=0.0, high=1.0, texts=True)
    active = number_value(values["active_ms"], "active_ms", low=0, high=_MOST_MS, texts=True)
    values["active_ms"] = None if active is None else int(active)
    values["late"] = str(values["late"]).lower() in ("true", "1")
    values["at"] = _time(values["at"])
    values["aspects"] = json.dumps(tags_value(row.get("aspects"), "aspects"))
    values["rater"] = values["rater"] or NO_RATER
    values["task_id"] = values["task_id"] or values["comparison_id"]
    return values


def _one_of(values: Mapping[str, Any], name: str, known: tuple[str, ...]) -> None:
    if values[name] not in known:
        shown = "missing" if values[name] is None else repr(values[name])
        listed = f"{', '.join(known[:-1])} or {known[-1]}"
        raise ValueError(f"{name} is {shown}; expected {listed}")


def _time(value: Any) -> datetime:
    if value is None:
        return datetime.fromtimestamp(0, UTC)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"at is {value!r}; expected 2026-01-31T12:00:00+00:00") from None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError(f"at is {value!r}; expected a time with its zone, for example +00:00")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"at is {value.isoformat()}; expected a year from 2 to 9998") from None
