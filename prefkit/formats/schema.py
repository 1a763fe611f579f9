"""The Arrow schema of every record, declared once, and the two-way conversion.

Messages are ``list<struct<role, parts: list<struct<kind, text, path>>, tool_calls, name>>``.
Tags and aspects are JSON objects in a string column: their keys differ from row to row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import pyarrow as pa

from prefkit.core.records import (
    Comparison,
    Completion,
    Example,
    Message,
    Messages,
    Part,
    Preference,
    Prompt,
    Sampling,
    Task,
    Verdict,
    Vote,
)
from prefkit.core.surrogates import encodable

R = TypeVar("R", Prompt, Completion, Comparison, Task, Vote, Preference, Example, Verdict)

_part = pa.struct([("kind", pa.string()), ("text", pa.string()), ("path", pa.string())])
MESSAGES = pa.list_(
    pa.struct(
        [
            ("role", pa.string()),
            ("parts", pa.list_(_part)),
            ("tool_calls", pa.string()),
            ("name", pa.string()),
        ]
    )
)
PROMPTS = pa.schema(
    [
        ("id", pa.string()),
        ("messages", MESSAGES),
        ("tools", pa.string()),
        ("source", pa.string()),
        ("tags", pa.string()),
    ]
)
COMPLETIONS = pa.schema(
    [
        ("id", pa.string()),
        ("prompt_id", pa.string()),
        ("messages", MESSAGES),
        ("model", pa.string()),
        ("temperature", pa.float64()),
        ("top_p", pa.float64()),
        ("max_tokens", pa.int64()),
        ("seed", pa.int64()),
        ("sample_index", pa.int64()),
        ("finish_reason", pa.string()),
        ("logprob", pa.float64()),
    ]
)
COMPARISONS = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", pa.struct(PROMPTS)),
        ("a", pa.struct(COMPLETIONS)),
        ("b", pa.struct(COMPLETIONS)),
        ("origin", pa.string()),
    ]
)
TASKS = pa.schema(
    [
        ("id", pa.string()),
        ("comparison_id", pa.string()),
        ("kind", pa.string()),
        ("k", pa.int64()),
    ]
)
VOTES = pa.schema(
    [
        ("id", pa.string()),
        ("task_id", pa.string()),
        ("comparison_id", pa.string()),
        ("rater", pa.string()),
        ("rater_kind", pa.string()),
        ("choice", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("strength", pa.int64()),
        ("p_a", pa.float64()),
        ("confidence", pa.float64()),
        ("aspects", pa.string()),
        ("rationale", pa.string()),
        ("edit", pa.string()),
        ("shown_first", pa.string()),
        ("active_ms", pa.int64()),
        ("guideline_version", pa.string()),
        ("late", pa.bool_()),
        ("replaces", pa.string()),
    ]
)
PREFERENCES = pa.schema(
    [
        ("comparison_id", pa.string()),
        ("p_a", pa.float64()),
        ("n_votes", pa.int64()),
        ("disagreement", pa.float64()),
        ("weight", pa.float64()),
        ("margin", pa.float64()),
        ("votes", pa.string()),
        ("method", pa.string()),
        ("version", pa.string()),
    ]
)
EXAMPLES = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", pa.struct(PROMPTS)),
        ("chosen", MESSAGES),
        ("rejected", MESSAGES),
        ("p", pa.float64()),
        ("weight", pa.float64()),
        ("margin", pa.float64()),
        ("votes", pa.string()),
        ("tags", pa.string()),
        ("evidence", pa.string()),
    ]
)
VERDICTS = pa.schema(
    [
        ("row_id", pa.string()),
        ("stage", pa.string()),
        ("action", pa.string()),
        ("reason", pa.string()),
        ("score", pa.float64()),
        ("threshold", pa.string()),
        ("matched_row", pa.string()),
        ("recipe", pa.string()),
    ]
)
SCHEMAS: dict[type, pa.Schema] = {
    Prompt: PROMPTS,
    Completion: COMPLETIONS,
    Comparison: COMPARISONS,
    Task: TASKS,
    Vote: VOTES,
    Preference: PREFERENCES,
    Example: EXAMPLES,
    Verdict: VERDICTS,
}


def to_table(records: Iterable[R], record_type: type[R]) -> pa.Table:
    """An Arrow table of ``record_type``'s schema; empty input gives an empty table.

    Lone surrogates (seen in scraped text) have no UTF-8: each becomes U+FFFD.
    """
    rows = [to_row(record) for record in records]
    try:
        return pa.Table.from_pylist(rows, schema=SCHEMAS[record_type])
    except UnicodeEncodeError:
        return pa.Table.from_pylist(encodable(rows), schema=SCHEMAS[record_type])


def from_table(table: pa.Table, record_type: type[R]) -> list[R]:
    """The records of a table that has ``record_type``'s schema."""
    return [from_row(row, record_type) for row in table.to_pylist()]


def to_row(record: Any) -> dict[str, Any]:
    """A record as the dict that Arrow takes."""
    match record:
        case Prompt():
            return {
                "id": record.id,
                "messages": messages_to_rows(record.messages),
                "tools": record.tools,
                "source": record.source,
                "tags": _dump(record.tags),
            }
        case Completion():
            sampling = record.sampling
            return {
                **_plain(record, ("id", "prompt_id", "model", "seed", "sample_index")),
                **_plain(record, ("finish_reason", "logprob")),
                "messages": messages_to_rows(record.messages),
                "temperature": sampling.temperature if sampling else None,
                "top_p": sampling.top_p if sampling else None,
                "max_tokens": sampling.max_tokens if sampling else None,
            }
        case Comparison():
            return {
                "id": record.id,
                "prompt": to_row(record.prompt),
                "a": to_row(record.a),
                "b": to_row(record.b),
                "origin": record.origin,
            }
        case Vote():
            names = [name for name in VOTES.names if name != "aspects"]
            return {**_plain(record, names), "aspects": _dump(record.aspects)}
        case Example():
            names = ("id", "p", "weight", "margin", "votes", "evidence")
            return {
                **_plain(record, names),
                "prompt": to_row(record.prompt),
                "chosen": messages_to_rows(record.chosen),
                "rejected": messages_to_rows(record.rejected),
                "tags": _dump(record.tags),
            }
        case _:
            return _plain(record, SCHEMAS[type(record)].names)


def from_row(row: Mapping[str, Any], record_type: type[R]) -> R:
    """The record of one row of its schema."""
    build: Any = _BUILDERS.get(record_type, lambda plain: record_type(**plain))
    return cast(R, build(row))


def messages_to_rows(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as Arrow takes them."""
    return [
        {
            "role": message.role,
            "parts": [{"kind": p.kind, "text": p.text, "path": p.path} for p in message.parts],
            "tool_calls": message.tool_calls,
            "name": message.name,
        }
        for message in messages
    ]


def messages_from_rows(rows: Iterable[Mapping[str, Any]]) -> Messages:
    """The other way."""
    return tuple(
        Message(
            row["role"],
            tuple(Part(p["kind"], p["text"], p["path"]) for p in row["parts"]),
            row["tool_calls"],
            row["name"],
        )
        for row in rows
    )


def _plain(record: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def _dump(mapping: Mapping[str, str]) -> str:
    return json.dumps(dict(mapping), ensure_ascii=False, sort_keys=True)


def _prompt(row: Mapping[str, Any]) -> Prompt:
    return Prompt(
        row["id"],
        messages_from_rows(row["messages"]),
        row["tools"],
        row["source"] or "",
        json.loads(row["tags"] or "{}"),
    )


def _completion(row: Mapping[str, Any]) -> Completion:
    sampling = None
    if row["max_tokens"] is not None:
        sampling = Sampling(row["temperature"], row["top_p"], row["max_tokens"])
    return Completion(
        row["id"],
        row["prompt_id"],
        messages_from_rows(row["messages"]),
        row["model"],
        sampling,
        row["seed"],
        row["sample_index"],
        row["finish_reason"],
        row["logprob"],
    )


def _comparison(row: Mapping[str, Any]) -> Comparison:
    return Comparison(
        row["id"],
        _prompt(row["prompt"]),
        _completion(row["a"]),
        _completion(row["b"]),
        row["origin"] or "",
    )


def _vote(row: Mapping[str, Any]) -> Vote:
    at: datetime = row["at"]
    aspects = json.loads(row["aspects"] or "{}")
    values: dict[str, Any] = {**row, "aspects": aspects, "at": at.astimezone(UTC)}
    return Vote(**values)


def _example(row: Mapping[str, Any]) -> Example:
    return Example(
        row["id"],
        _prompt(row["prompt"]),
        messages_from_rows(row["chosen"]),
        messages_from_rows(row["rejected"]),
        row["p"],
        row["weight"],
        row["margin"],
        row["votes"],
        json.loads(row["tags"] or "{}"),
        row["evidence"],
    )


_BUILDERS: dict[type, Any] = {
    Prompt: _prompt,
    Completion: _completion,
    Comparison: _comparison,
    Vote: _vote,
    Example: _example,
}
