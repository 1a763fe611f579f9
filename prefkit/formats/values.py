"""One cell of a foreign row: what kind of thing it is, and messages out of its usual spellings.

Faults are raised as ValueError with what was found; the caller adds the place.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

from prefkit.core.records import ROLES, Message, Messages, Part

Kind = Literal[
    "text",
    "transcript",
    "turns",
    "messages",
    "answer",
    "prefkit",
    "list",
    "object",
    "number",
    "none",
]
HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
# "Human:" may open a text without its blank lines: a parsed prompt is often stripped.
_TURN = re.compile(r"(?:^\s*|\n\n)(Human|Assistant):", re.ASCII)


def kind_of(value: Any) -> Kind:
    """The kind of a cell.

    transcript: text that opens with "Human:" and holds an "Assistant:" turn. turns: text that
    opens with "Human:" only. messages: role + content, beginning before an answer. answer: the
    same, beginning with the assistant. prefkit: messages in prefkit's own schema.
    """
    if is_missing(value):
        return "none"
    if isinstance(value, str):
        return _kind_of_text(value)
    if isinstance(value, bool | int | float):
        return "number"
    if isinstance(value, Mapping):
        return "object"
    if isinstance(value, Sequence):
        return _kind_of_list(cast(Sequence[Any], value))
    return "object"


def is_missing(value: Any) -> bool:
    """None and NaN, which data frames write for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _kind_of_text(text: str) -> Kind:
    if not text.lstrip().startswith("Human:"):
        return "text"
    return "transcript" if text.startswith("\n\nHuman:") and ASSISTANT in text else "turns"


def _kind_of_list(items: Sequence[Any]) -> Kind:
    first = items[0] if items else None
    if not isinstance(first, Mapping) or "role" not in first:
        return "list"
    if "parts" in first:
        return "prefkit"
    if "content" not in first and "tool_calls" not in first:
        return "list"
    return "answer" if first["role"] == "assistant" else "messages"


def text_value(value: Any, column: str) -> str:
    """The text of a cell; ValueError if it holds anything else."""
    if isinstance(value, str):
        return value
    raise ValueError(f"{column} is {shown(value)}; expected text")


def number_value(
    value: Any, column: str, *, low: float, high: float, texts: bool = False
) -> float | None:
    """A number in [low, high], None where it is missing.

    texts: out of a file that knows only text (CSV), where an empty field is missing and numbers are
    spelled; elsewhere text is refused. NaN is refused, not read as missing: a label that a
    computation lost is no certain label.
    """
    if value is None or (texts and value == ""):
        return None
    try:
        if isinstance(value, bool) or (isinstance(value, str) and not texts):
            raise ValueError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{column} is {shown(value)}; expected a number") from None
    if not (low <= number <= high and math.isfinite(number)):
        top = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"
        raise ValueError(f"{column} is {number:g}; expected a number {top}")
    return number


def tags_value(value: Any, column: str = "tags") -> dict[str, str]:
    """Tags as text by text: out of an object, JSON text, or a list of words (each "true")."""
    if is_missing(value) or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (json.JSONDecodeError, RecursionError):
            value = [word.strip() for word in value.split(",")]
    if isinstance(value, Mapping):
        pairs = cast(Mapping[Any, Any], value).items()
        return {
            str(k): v if isinstance(v, str) else json.dumps(v) for k, v in pairs if v is not None
        }
    if isinstance(value, Iterable) and not isinstance(value, str):
        return {str(word): "true" for word in cast(Iterable[Any], value)}
    raise ValueError(f"{column} is {shown(value)}; expected an object or a list of words")


def messages_value(value: Any, column: str) -> Messages:
    """Messages out of a list of {role, content}; content is text or a list of typed parts."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"{column} is {shown(value)}; expected a list of messages")
    turns = cast(Sequence[Any], value)
    return tuple(_message(turn, f"{column}[{index}]") for index, turn in enumerate(turns))


def _message(turn: Any, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise ValueError(f"{where} is {shown(turn)}; expected an object with role and content")
    fields = cast(Mapping[str, Any], turn)
    role = fields.get("role")
    if role not in ROLES:
        raise ValueError(f"{where}: role is {shown(role)}; expected {', '.join(ROLES)}")
    for other in ("reasoning_content", "thinking"):
        if isinstance(fields.get(other), str) and fields[other].strip():
            raise ValueError(
                f"{where}: {other} is not read; put it into content, as the model's template "
                "writes it (<think>…</think> for many)"
            )
    calls, name = fields.get("tool_calls"), fields.get("name")
    parts = fields["parts"] if "parts" in fields else fields.get("content")
    return Message(
        cast(str, role),
        _parts(parts, where),
        None if is_missing(calls) or calls in ("", []) else _calls_json(calls, where),
        None if is_missing(name) or name == "" else text_value(name, f"{where}: name"),
    )


def object_value(value: Any, column: str) -> dict[str, Any]:
    """An object out of an object or its JSON text, {} where it is missing."""
    if is_missing(value) or value == "":
        return {}
    if isinstance(value, str):
        value = _parsed(value, column)
    if not isinstance(value, Mapping):
        raise ValueError(f"{column} is {shown(value)}; expected an object")
    return cast(dict[str, Any], _without_none(value))


def tools_value(value: Any, column: str = "tools") -> str | None:
    """The tools as JSON text, out of a list of schemas or JSON text; None where there are none."""
    if is_missing(value) or value in ("", []):
        return None
    tools = _parsed(value, column) if isinstance(value, str) else _without_none(value)
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise ValueError(f"{column} is {shown(value)}; expected a list of JSON schemas")
    # Text that came as text stays as it is: ids are made of it.
    return value if isinstance(value, str) else json.dumps(tools, ensure_ascii=False)


def _parsed(text: str, column: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError(f"{column} is {shown(text)}; expected JSON") from None


def _without_none(value: Any) -> Any:
    """``value`` without keys that hold None: Arrow gives every row the keys of all rows."""
    if isinstance(value, Mapping):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return value


def _calls_json(value: Any, where: str) -> str:
    """Tool calls as JSON text."""
    if isinstance(value, str):
        _parsed(value, f"{where}: tool_calls")
        return value
    return json.dumps(_without_none(value), ensure_ascii=False)


def _parts(content: Any, where: str) -> tuple[Part, ...]:
    if is_missing(content):
        return ()
    if isinstance(content, str):
        return (Part("text", content),)
    if not isinstance(content, Sequence):
        raise ValueError(f"{where}: content is {shown(content)}; expected text or a list of parts")
    return tuple(_part(part, where) for part in cast(Sequence[Any], content))


def _part(part: Any, where: str) -> Part:
    fields = cast(Mapping[str, Any], part) if isinstance(part, Mapping) else {}
    kind = fields.get("type", fields.get("kind"))
    if kind == "text":
        return Part("text", text_value(fields.get("text"), f"{where}: text part"))
    if kind in ("image", "audio"):
        path = fields.get("path") or fields.get(kind)
        if isinstance(path, str):
            return Part(cast(Any, kind), path=path)
    raise ValueError(f"{where}: part is {shown(part)}; expected {{type: text, text: ...}}")


def parse_transcript(text: str, column: str) -> Messages:
    """Messages of a "Human: … Assistant: …" text, one a turn; ValueError if it has none.

    The blank before an answer is layout, not content: each turn is stripped.
    """
    marks = list(_TURN.finditer(text))
    if not marks or text[: marks[0].start()].strip():
        raise ValueError(f"{column} is {shown(text)}; expected a transcript that opens 'Human:'")
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    roles = {"Human": "user", "Assistant": "assistant"}
    return tuple(
        Message.of(roles[mark.group(1)], text[mark.end() : end].strip())
        for mark, end in zip(marks, ends, strict=True)
    )


def shown(value: object) -> str:
    """A cell as messages show it, cut to 60 characters."""
    if value is None:
        return "missing"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
