"""The layouts of preference data that prefkit reads, one entry each.

A layout says which columns of which kinds it needs and how one row becomes a prompt and two
answers. Adding one is adding an entry here (or through the entry-point group); detect.py chooses.
Dialogues are split by message and by role, never by characters: two answers that open with the
same letters would lose them to the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

from prefkit.core.records import Message, Messages
from prefkit.core.registry import Registry
from prefkit.formats.schema import messages_from_rows
from prefkit.formats.values import (
    Kind,
    is_missing,
    messages_value,
    parse_transcript,
    text_value,
    tools_value,
)


class Unusable(Exception):
    """A well-formed row that is no preference pair; the reason is counted, the row dropped."""


@dataclass(frozen=True, slots=True)
class Sides:
    """One row, read: all messages before the answers, and the two answers."""

    prompt: Messages
    chosen: Messages
    rejected: Messages
    tools: str | None = None


class Reader(Protocol):
    """Reads one row. ValueError: a malformed cell. Unusable: a matter of content.

    A pair layout gives Sides, the others what train_layouts.py says.
    """

    def __call__(self, row: Mapping[str, Any], /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Layout:
    """One layout.

    needs: column → the kinds it may hold. forbids: columns that would make the reading
    ambiguous. optional: columns that the reader uses where they are there. alone: any other
    column but the usual extras speaks against it. target: the kind of training row it holds.
    """

    name: str
    about: str
    needs: Mapping[str, tuple[Kind, ...]]
    read: Reader
    forbids: frozenset[str] = frozenset()
    optional: tuple[str, ...] = field(default=())
    alone: bool = False
    target: str = "pair"


LAYOUTS: Registry[Layout] = Registry("layout", "prefkit.layouts")
# Two answers that nobody has compared yet.
PAIRS = (
    ("a", "b"),
    ("response_a", "response_b"),
    ("answer_a", "answer_b"),
    ("completion_a", "completion_b"),
    ("completion_1", "completion_2"),
    ("response_1", "response_2"),
    ("response1", "response2"),
)
ALIASES: Mapping[str, tuple[str, ...]] = {"prompt": ("question", "instruction")}


def layout(
    name: str,
    about: str,
    needs: Mapping[str, tuple[Kind, ...]],
    *,
    forbids: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> Callable[[Reader], Reader]:
    """Register the decorated row reader as a layout."""

    def register(read: Reader) -> Reader:
        LAYOUTS.add(name, Layout(name, about, needs, read, frozenset(forbids), tuple(optional)))
        return read

    return register


_TEXT: tuple[Kind, ...] = ("text",)


@layout(
    "prefkit",
    "prefkit's own examples: prompt, chosen, rejected in its message schema",
    {"prompt": ("object",), "chosen": ("prefkit",), "rejected": ("prefkit",)},
)
def read_prefkit(row: Mapping[str, Any]) -> Sides:
    """Rows of an Example table that came through a data frame or JSON."""
    prompt = cast(Mapping[str, Any], row["prompt"])
    return Sides(
        messages_from_rows(prompt["messages"]),
        messages_from_rows(row["chosen"]),
        messages_from_rows(row["rejected"]),
        prompt.get("tools"),
    )


@layout(
    "strings",
    "prompt, chosen, rejected as plain text (prompt may be called question or instruction)",
    {"prompt": _TEXT, "chosen": _TEXT, "rejected": _TEXT},
    optional=("system", "tools"),
)
def read_strings(row: Mapping[str, Any]) -> Sides:
    """One user turn and two answers."""
    prompt = (*system_turn(row), Message.of("user", text_value(row["prompt"], "prompt")))
    return Sides(prompt, _answer(row, "chosen"), _answer(row, "rejected"), _tools(row))


@layout(
    "transcript_prompt",
    "prompt as a 'Human: … Assistant: …' transcript, chosen and rejected as plain text",
    {"prompt": ("turns", "transcript"), "chosen": _TEXT, "rejected": _TEXT},
    optional=("system", "tools"),
)
def read_transcript_prompt(row: Mapping[str, Any]) -> Sides:
    """The dialogue before the answer, by role, and two answers."""
    prompt = (*system_turn(row), *parse_transcript(text_value(row["prompt"], "prompt"), "prompt"))
    if prompt[-1].role == "assistant" and not prompt[-1].text:
        prompt = prompt[:-1]  # an open "Assistant:" asks for the answer; it is not a turn
    return Sides(prompt, _answer(row, "chosen"), _answer(row, "rejected"), _tools(row))


@layout(
    "hh",
    "chosen and rejected as whole 'Human: … Assistant: …' transcripts (Anthropic HH)",
    {"chosen": ("transcript",), "rejected": ("transcript",)},
    forbids=("prompt",),
    optional=("tools",),
)
def read_hh(row: Mapping[str, Any]) -> Sides:
    """Split at the last assistant turn that both dialogues share."""
    chosen = parse_transcript(text_value(row["chosen"], "chosen"), "chosen")
    rejected = parse_transcript(text_value(row["rejected"], "rejected"), "rejected")
    return replace(split_dialogues(chosen, rejected), tools=_tools(row))


@layout(
    "messages",
    "chosen and rejected as whole dialogues of {role, content}, no prompt column",
    {"chosen": ("messages",), "rejected": ("messages",)},
    forbids=("prompt",),
    optional=("tools",),
)
def read_messages(row: Mapping[str, Any]) -> Sides:
    """The prompt is the common beginning, message by message."""
    sides = split_dialogues(
        messages_value(row["chosen"], "chosen"), messages_value(row["rejected"], "rejected")
    )
    return Sides(sides.prompt, sides.chosen, sides.rejected, _tools(row))


@layout(
    "conversational",
    "prompt as messages or text, chosen and rejected as messages of the answer (TRL)",
    {"prompt": ("messages", "text"), "chosen": ("answer",), "rejected": ("answer",)},
    optional=("system", "tools"),
)
def read_conversational(row: Mapping[str, Any]) -> Sides:
    """TRL's explicit-prompt conversational format; tags and p travel beside it."""
    return Sides(
        prompt_messages(row),
        messages_value(row["chosen"], "chosen"),
        messages_value(row["rejected"], "rejected"),
        _tools(row),
    )


@layout(
    "full_conversation",
    "prompt, and chosen and rejected as whole dialogues that repeat it (ultrafeedback_binarized)",
    {"prompt": ("text", "messages"), "chosen": ("messages",), "rejected": ("messages",)},
    optional=("tools",),
)
def read_full_conversation(row: Mapping[str, Any]) -> Sides:
    """Split by message; the prompt column has to agree with what the dialogues share."""
    sides = split_dialogues(
        messages_value(row["chosen"], "chosen"), messages_value(row["rejected"], "rejected")
    )
    stated = prompt_messages(row)
    shared = [(m.role, m.text.strip()) for m in sides.prompt]
    if any((m.role, m.text.strip()) not in shared for m in stated):
        raise Unusable("the prompt column is not in the dialogue")
    return Sides(sides.prompt, sides.chosen, sides.rejected, _tools(row))


def split_dialogues(chosen: Messages, rejected: Messages) -> Sides:
    """Cut two dialogues at the last assistant turn up to which they are equal.

    Unusable where they share no turn before an answer: then there is no common prompt.
    """
    cut = 0
    for index, (one, other) in enumerate(zip(chosen, rejected, strict=False)):
        if one.role == other.role == "assistant":
            cut = index
        if one != other:
            break
    if cut == 0:
        raise Unusable("the two dialogues share no prompt")
    return Sides(chosen[:cut], chosen[cut:], rejected[cut:])


def _answer(row: Mapping[str, Any], column: str) -> Messages:
    return (Message.of("assistant", text_value(row[column], column)),)


def system_turn(row: Mapping[str, Any]) -> Messages:
    """The turn of a ``system`` column, () where it is missing or empty."""
    value = row.get("system")
    if is_missing(value) or value == "":
        return ()
    return (Message.of("system", text_value(value, "system")),)


def _tools(row: Mapping[str, Any]) -> str | None:
    return tools_value(row.get("tools"))


def prompt_messages(row: Mapping[str, Any]) -> Messages:
    """The ``prompt`` column, text or messages, behind the ``system`` turn."""
    value = row["prompt"]
    if isinstance(value, str):
        return (*system_turn(row), Message.of("user", value))
    return (*system_turn(row), *messages_value(value, "prompt"))
