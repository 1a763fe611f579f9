"""Messages to text by the model's own chat template, cut into what is scored and what is read.

A rendered exchange is a list of segments. The borders come from the template itself: where the
text with the generation prompt ends, an answer begins, exactly as an engine would go on from
there. Templates that rewrite a dialogue once it goes on (Qwen3 drops the thinking of earlier
turns, Mistral moves the system message) are asked where a stand-in for the answer comes out.

Knows nothing of tokens; template.py turns segments into them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from prefkit.core.errors import DataError, ModelError
from prefkit.core.records import Message, Messages, Prompt

STAND_IN = "prefkit7stand0in"
# Templates that write today's date would give other tokens tomorrow: another run, another key of
# the reference store. This is the date that Llama 3's template itself falls back to.
WRITTEN_DATE = date(2024, 7, 26)
DATE_DIRECTIVES = ("%-d", "%-m", *(f"%{letter}" for letter in "aAbBcdjmpwxyYHIMSUWXzZ"))


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of rendered text; scored where the assistant wrote it."""

    text: str
    scored: bool


@dataclass(frozen=True, slots=True)
class Renderer:
    """Renders one prompt's dialogues: its tools and the template's arguments stay the same."""

    tokenizer: Any
    prompt: Prompt
    arguments: Mapping[str, Any]

    def text(self, messages: Sequence[Message], *, generation: bool) -> str:
        """The template's text, with the generation prompt or without; DataError if it refuses."""
        # Imported here: only a template that refuses needs it.
        from jinja2.exceptions import TemplateError

        try:
            return str(
                self.tokenizer.apply_chat_template(
                    template_messages(messages),
                    tools=json.loads(self.prompt.tools) if self.prompt.tools else None,
                    tokenize=False,
                    add_generation_prompt=generation,
                    **{**_written_date(self.tokenizer, self.prompt.tools), **self.arguments},
                )
            )
        except (TemplateError, TypeError) as error:
            raise DataError(
                f"prompt {self.prompt.id}: the model's chat template refuses it: {error}",
                hint="check the order of roles (many templates want user and assistant in turn)",
            ) from None

    def segments(self, asked: str, completion: Messages, end_of_turn: str) -> list[Segment]:
        """The prompt's text and the completion's, in order; every assistant turn is scored.

        asked: the prompt with the generation prompt. end_of_turn: what the template writes after
        an answer, "" where nothing; it belongs to the answer.
        """
        turns = [i for i, message in enumerate(completion) if message.role == "assistant"]
        if not turns or turns[-1] != len(completion) - 1:
            raise DataError(
                f"prompt {self.prompt.id}: the answer does not end in an assistant turn",
                hint="each answer needs a last message of role assistant",
            )
        dialogue = (*self.prompt.messages, *completion)
        n_before = len(self.prompt.messages)
        whole = self.text(dialogue, generation=False)
        found: list[Segment] = []
        done = 0
        for turn in turns:
            index = n_before + turn
            before = asked if turn == 0 else self.text(dialogue[:index], generation=True)
            start, end = self._span(whole, dialogue, index, before, end_of_turn)
            found += [Segment(whole[done:start], False), Segment(whole[start:end], True)]
            done = end
        return found

    def _span(
        self, whole: str, dialogue: Messages, index: int, before: str, end_of_turn: str
    ) -> tuple[int, int]:
        """Where message ``index`` begins and ends in ``whole``, its end-of-turn included."""
        last = index == len(dialogue) - 1
        prefixed = whole.startswith(before)
        if prefixed and last:
            return len(before), len(whole)
        if prefixed:
            upto = self.text(dialogue[: index + 1], generation=False)
            if whole.startswith(upto) and upto.startswith(before):
                return len(before), len(upto)
        start, end = self._located(whole, dialogue, index)
        if whole.startswith(end_of_turn, end):
            end += len(end_of_turn)
        while start and whole[start - 1] == " ":  # "[/INST] word": engines sample " word"
            start -= 1
        return len(before) if prefixed else start, len(whole) if last else end

    def _located(self, whole: str, dialogue: Messages, index: int) -> tuple[int, int]:
        """The same, found by what stands around a stand-in for the message's text."""
        stand_in = STAND_IN
        while stand_in in whole:
            stand_in += "0"
        message = Message.of("assistant", stand_in)
        changed = (*dialogue[:index], message, *dialogue[index + 1 :])
        parts = self.text(changed, generation=False).split(stand_in)
        if len(parts) == 2:
            start, end = len(parts[0]), len(whole) - len(parts[1])
            if whole.startswith(parts[0]) and whole.endswith(parts[1]) and start <= end:
                return start, end
        raise ModelError(
            f"prompt {self.prompt.id}: the chat template renders the prompt differently once it is "
            "answered, so the answer's tokens cannot be told from the prompt's",
            hint="use a template whose text with the generation prompt begins the whole text",
        )


def _written_date(tokenizer: Any, tools: str | None) -> dict[str, str]:
    """The argument under which a template that asks for today's date gets ``WRITTEN_DATE``.

    A macro of the template's own: transformers since 5.23 takes no function from the caller.
    """
    template = tokenizer.get_chat_template(tools=json.loads(tools) if tools else None)
    if "strftime_now" not in template:
        return {}
    written = "format" + "".join(
        f"|replace({directive!r}, {WRITTEN_DATE.strftime(directive)!r})"
        for directive in DATE_DIRECTIVES
    )
    # "+" keeps a line break after it, which the template may begin with.
    macro = f"{{% macro strftime_now(format) %}}{{{{ {written} }}}}{{% endmacro +%}}"
    return {"chat_template": macro + template}


def closing_text(tokenizer: Any) -> str:
    """What the template writes after the text of a last answer; "" where it takes no probe."""
    probe = Prompt("probe", (Message.of("user", "a"),))
    dialogue = (*probe.messages, Message.of("assistant", STAND_IN))
    try:
        text = Renderer(tokenizer, probe, {}).text(dialogue, generation=False)
    except DataError:
        return ""
    return text.partition(STAND_IN)[2]


def plain_segments(prompt: Prompt, completion: Messages) -> list[Segment]:
    """Prompt and answer one after the other, for models without a chat template.

    DataError where there is more than one turn on either side: nothing says how to join them.
    """
    if len(completion) != 1 or completion[0].role != "assistant":
        raise DataError(
            f"prompt {prompt.id}: an answer of {len(completion)} turns, and no chat template",
            hint="use a model with a chat template, or rows of one question and one answer",
        )
    return [
        Segment(plain_prompt(prompt), False),
        Segment(str(template_messages(completion)[0]["content"]), True),
    ]


def plain_prompt(prompt: Prompt) -> str:
    """The text of a prompt of one user turn, "" for none; DataError for more."""
    if not prompt.messages:
        return ""
    first, *others = prompt.messages
    if others or first.role != "user":
        raise DataError(
            f"prompt {prompt.id}: a dialogue, and no chat template that would render it",
            hint="use a model with a chat template, or prompts of one user turn",
        )
    return str(template_messages(prompt.messages)[0]["content"])


def template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates take them; DataError for parts that are not text."""
    out: list[dict[str, Any]] = []
    for message in messages:
        foreign = next((part.kind for part in message.parts if part.kind != "text"), None)
        if foreign:
            raise DataError(
                f"a message holds an {foreign} part; text models take text only",
                hint="drop the rows with images or audio",
            )
        turn: dict[str, Any] = {"role": message.role, "content": message.text}
        if message.tool_calls is not None:
            turn["tool_calls"] = json.loads(message.tool_calls)
        if message.name is not None:
            turn["name"] = message.name
        out.append(turn)
    return out
