"""The layouts of training data that are no plain preference pairs, one entry each.

Unpaired answers with a label (TRL's KTO format), ranked lists, demonstrations (TRL's
prompt-completion and language-modelling formats), and pairs of raw text without a prompt. Pairs
with a prompt are in layouts.py; train.py reads both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefkit.core.records import Message, Messages
from prefkit.core.registry import Registry
from prefkit.formats.layouts import Layout, Reader, Unusable, prompt_messages, system_turn
from prefkit.formats.values import (
    Kind,
    is_missing,
    kind_of,
    messages_value,
    number_value,
    parse_transcript,
    text_value,
    tools_value,
)


@dataclass(frozen=True, slots=True)
class Answers:
    """One row, read: the prompt (no messages for raw text) and its answers, best first.

    raw: text for no chat template, whose prompt is in the answers. p: 1 or 0 for an unpaired answer
    that is desirable or not. n_tied: answers left out because another has the same rank.
    """

    prompt: Messages
    completions: tuple[Messages, ...]
    tools: str | None = None
    p: float = 1.0
    n_tied: int = 0
    raw: bool = False


TRAIN_LAYOUTS: Registry[Layout] = Registry("layout", "prefkit.train_layouts")
_ASKED: tuple[Kind, ...] = ("text", "messages", "transcript", "turns")
_SAID: tuple[Kind, ...] = ("text", "answer")


def train_layout(
    name: str,
    about: str,
    target: str,
    needs: Mapping[str, tuple[Kind, ...]],
    *,
    forbids: Sequence[str] = (),
    optional: Sequence[str] = (),
    alone: bool = False,
) -> Callable[[Reader], Reader]:
    """Register the decorated row reader, which gives Answers, as a layout of training rows."""

    def register(read: Reader) -> Reader:
        TRAIN_LAYOUTS.add(
            name,
            Layout(name, about, needs, read, frozenset(forbids), tuple(optional), alone, target),
        )
        return read

    return register


@train_layout(
    "unpaired",
    "prompt, completion and a label, true for a desirable answer (TRL's KTO format)",
    "unpaired",
    {"prompt": _ASKED, "completion": _SAID, "label": ("number", "text")},
    optional=("system", "tools"),
)
def read_unpaired(row: Mapping[str, Any]) -> Answers:
    """One answer, good or bad."""
    return Answers(_asked(row), (_said(row["completion"], "completion"),), _tools(row), _label(row))


@train_layout(
    "unpaired_dialogue",
    "messages that end in an answer, and a label, true for a desirable one",
    "unpaired",
    {"messages": ("messages",), "label": ("number", "text")},
    forbids=("completion", "chosen", "rejected"),
    optional=("tools",),
)
def read_unpaired_dialogue(row: Mapping[str, Any]) -> Answers:
    """The last turn is the answer, all before it the prompt."""
    turns = messages_value(row["messages"], "messages")
    if not turns or turns[-1].role != "assistant":
        raise ValueError("messages does not end in an assistant message")
    return Answers(turns[:-1], (turns[-1:],), _tools(row), _label(row))


@train_layout(
    "ranking",
    "prompt and a list of completions, best first or with a list of ranks or scores",
    "ranking",
    {"prompt": _ASKED, "completions": ("list",)},
    forbids=("completion", "chosen", "rejected"),
    optional=("system", "tools", "ranks", "scores"),
)
def read_ranking(row: Mapping[str, Any]) -> Answers:
    """Best first: by ``ranks`` (1 is best), by ``scores`` (high is best), else as listed.

    Of answers with the same rank the first stays: no loss of ours takes ties in a list.
    """
    cells = row["completions"]
    if kind_of(cells) != "list":
        raise ValueError("completions is no list; expected texts or lists of messages")
    said = [_said(cell, f"completions[{i}]") for i, cell in enumerate(cells)]
    places = _places(row, len(said))
    order = sorted(range(len(said)), key=lambda i: places[i])
    kept = [i for n, i in enumerate(order) if n == 0 or places[i] != places[order[n - 1]]]
    if len(kept) < 2:
        raise Unusable("a list without two answers of different rank")
    answers = tuple(said[i] for i in kept)
    return Answers(_asked(row), answers, _tools(row), n_tied=len(said) - len(kept))


@train_layout(
    "prompt_completion",
    "prompt and the completion to learn (TRL's prompt-completion format)",
    "demonstration",
    {"prompt": _ASKED, "completion": _SAID},
    forbids=("label", "chosen", "rejected", "completions"),
    optional=("system", "tools"),
)
def read_prompt_completion(row: Mapping[str, Any]) -> Answers:
    """One answer to imitate."""
    return Answers(_asked(row), (_said(row["completion"], "completion"),), _tools(row))


@train_layout(
    "dialogue",
    "messages: a dialogue whose assistant turns are learned (TRL's conversational format)",
    "demonstration",
    {"messages": ("messages",)},
    forbids=("label", "chosen", "rejected", "completion", "completions"),
    optional=("tools",),
)
def read_dialogue(row: Mapping[str, Any]) -> Answers:
    """All up to the first answer is the prompt; what follows the last answer is left off."""
    turns = messages_value(row["messages"], "messages")
    said = [i for i, turn in enumerate(turns) if turn.role == "assistant"]
    if not said:
        raise Unusable("a dialogue without an assistant turn")
    return Answers(turns[: said[0]], (turns[said[0] : said[-1] + 1],), _tools(row))


@train_layout(
    "text",
    "text to continue, no prompt and no turns (TRL's language-modelling format)",
    "demonstration",
    {"text": ("text", "transcript", "turns")},
    forbids=("prompt", "completion", "completions", "messages", "chosen", "rejected", "label"),
)
def read_text(row: Mapping[str, Any]) -> Answers:
    """Raw text, for no chat template."""
    return Answers((), (_raw(row, "text"),), raw=True)


@train_layout(
    "raw_pair",
    "chosen and rejected as raw text that holds the prompt too (TRL's implicit prompt)",
    "pair",
    {"chosen": ("text",), "rejected": ("text",)},
    forbids=("prompt", "votes"),
    alone=True,
)
def read_raw_pair(row: Mapping[str, Any]) -> Answers:
    """Two texts; the tokens with which both begin are their prompt, found when they are encoded."""
    return Answers((), (_raw(row, "chosen"), _raw(row, "rejected")), raw=True)


def _asked(row: Mapping[str, Any]) -> Messages:
    """The prompt, of which an open "Assistant:" at the end of a transcript is no turn."""
    if kind_of(row["prompt"]) not in ("transcript", "turns"):
        if is_missing(row["prompt"]):
            raise ValueError("prompt is missing")
        return prompt_messages(row)
    turns = parse_transcript(row["prompt"], "prompt")
    if turns[-1].role == "assistant" and not turns[-1].text:
        turns = turns[:-1]
    return (*system_turn(row), *turns)


def _said(value: Any, column: str) -> Messages:
    if isinstance(value, str):
        return (Message.of("assistant", value),)
    if is_missing(value):
        raise ValueError(f"{column} is missing")
    messages = messages_value(value, column)
    if not messages or messages[-1].role != "assistant":
        raise ValueError(f"{column} does not end in an assistant message")
    return messages


def _raw(row: Mapping[str, Any], column: str) -> Messages:
    return (Message.of("assistant", text_value(row[column], column)),)


def _tools(row: Mapping[str, Any]) -> str | None:
    return tools_value(row.get("tools"))


def _label(row: Mapping[str, Any]) -> float:
    value = row["label"]
    words = {"true": True, "false": False, "1": True, "0": False}
    label = words.get(value.strip().lower()) if isinstance(value, str) else value
    if label not in (True, False):  # 1, 0, 1.0 and 0.0 are equal to them
        raise ValueError(f"label is {value!r}; expected true or false")
    return float(label)


def _places(row: Mapping[str, Any], n: int) -> list[float]:
    """Where each answer stands: lower is better."""
    given = [name for name in ("ranks", "scores") if not is_missing(row.get(name))]
    if len(given) > 1:
        raise ValueError("ranks and scores are both given; leave one out with --map scores=")
    if not given:
        return [float(i) for i in range(n)]
    name = given[0]
    values = row[name]
    if kind_of(values) != "list" or len(values) != n:
        raise ValueError(f"{name} is not a list of {n} numbers, one a completion")
    sign = 1.0 if name == "ranks" else -1.0
    places: list[float] = []
    for i, value in enumerate(values):
        number = number_value(value, f"{name}[{i}]", low=float("-inf"), high=float("inf"))
        if number is None:
            raise ValueError(f"{name}[{i}] is missing; expected a number")
        places.append(sign * number)
    return places
