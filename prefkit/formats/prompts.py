"""Prompts out of a file: text (one a line), JSONL, JSON, CSV, Parquet, Arrow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from prefkit.core.errors import DataError
from prefkit.core.records import Message, Messages, Prompt
from prefkit.formats.detect import resolve_columns
from prefkit.formats.rows import Rows, read_lines, read_rows
from prefkit.formats.schema import messages_from_rows
from prefkit.formats.values import (
    is_missing,
    kind_of,
    messages_value,
    tags_value,
    text_value,
    tools_value,
)

TEXT_SUFFIXES = (".txt", ".text")


def load_prompts(path: str | Path, *, mapping: Mapping[str, str] | None = None) -> list[Prompt]:
    """The prompts of a file, in its order; what ``read_prompts`` gives without the counts."""
    return read_prompts(path, mapping=mapping)[0]


def read_prompts(
    path: str | Path, *, mapping: Mapping[str, str] | None = None
) -> tuple[list[Prompt], dict[str, int]]:
    """The prompts and the counts: n_read = n_prompts + n_repeated.

    A row has ``prompt`` (text or messages; also called question or instruction) or ``messages``,
    and may have ``system``, ``tools`` and ``tags``. Of equal prompts (messages and tools) the
    first stays. DataError by row for one that is empty or ends with an answer, and for a file
    without any.
    """
    path = Path(path).expanduser()
    if path.name.lower().removesuffix(".gz").endswith(TEXT_SUFFIXES):
        lines = read_lines(path)
        rows = Rows(str(path), [{"prompt": text} for _, text in lines], [n for n, _ in lines])
    else:
        rows = read_rows(path)
    if not rows.values:
        raise DataError(f"{path}: no prompts", hint="write one prompt a line")
    columns = resolve_columns(rows, mapping or {})
    if "prompt" not in columns and "messages" not in columns:
        raise DataError(
            f"{path}: no column 'prompt' or 'messages' (columns: {', '.join(rows.columns)})",
            hint="name it: --map prompt=COLUMN, or rename the column",
        )
    found: dict[str, Prompt] = {}
    for index, row in enumerate(rows.values):
        values = {ours: row.get(theirs) for ours, theirs in columns.items()}
        try:
            prompt = prompt_of(values, source=path.name)
        except (ValueError, KeyError, TypeError) as error:
            raise rows.fault(index, str(error)) from None
        found.setdefault(prompt.id, prompt)
    n_read = len(rows.values)
    counts = {"n_read": n_read, "n_prompts": len(found), "n_repeated": n_read - len(found)}
    return list(found.values()), counts


def prompt_of(row: Mapping[str, Any], *, source: str) -> Prompt:
    """The prompt of one row with our column names; ValueError says what is wrong with it."""
    messages = (*_system(row), *_messages(row))
    if not any(message.parts for message in messages):
        raise ValueError("the prompt is empty")
    texts_only = all(part.kind == "text" for message in messages for part in message.parts)
    if texts_only and not any(message.text.strip() for message in messages):
        raise ValueError("the prompt is empty")
    if messages[-1].role == "assistant":
        raise ValueError("the prompt ends with an assistant turn; expected a user turn last")
    return Prompt.make(
        messages,
        tools=tools_value(row.get("tools")),
        source=source,
        tags=tags_value(row.get("tags")),
    )


def _messages(row: Mapping[str, Any]) -> Messages:
    column = "prompt" if not is_missing(row.get("prompt")) else "messages"
    value = row.get(column)
    if isinstance(value, str):
        return (Message.of("user", value),)
    if isinstance(value, Mapping) and "messages" in value:
        value = cast(Mapping[str, Any], value)["messages"]
    if kind_of(value) == "prefkit":
        return messages_from_rows(cast(Any, value))
    if is_missing(value):
        raise ValueError("the prompt is missing")
    return messages_value(value, column)


def _system(row: Mapping[str, Any]) -> Messages:
    value = row.get("system")
    if is_missing(value) or value == "":
        return ()
    return (Message.of("system", text_value(value, "system")),)
