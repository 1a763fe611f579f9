"""Text to tokens by the model's own chat template: which tokens are asked, which are the answer.

The prompt is tokenised with the generation prompt, exactly as engines sample from it; the answer's
tokens are what follows, up to and with its end-of-turn token, exactly as engines return it. The
split is found on tokens. Only the last assistant turn of an answer is scored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefkit.core.errors import DataError, ModelError
from prefkit.core.records import Message, Messages, Prompt


@dataclass(frozen=True, slots=True)
class TokenRow:
    """Token ids of a prompt and its answer; the answer is ``ids[n_prompt:]``."""

    ids: tuple[int, ...]
    n_prompt: int

    @property
    def n_completion(self) -> int:
        """How many tokens are scored."""
        return len(self.ids) - self.n_prompt


@dataclass(frozen=True, slots=True)
class TokenPair:
    """Both answers to one prompt. truncated: both were cut by the same rule."""

    chosen: TokenRow
    rejected: TokenRow
    truncated: bool


def encode_prompt(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Token ids of the prompt with the generation prompt: what an engine continues."""
    return _template_ids(tokenizer, prompt.messages, prompt, generation=True)


def encode_row(
    tokenizer: Any, prompt: Prompt, completion: Messages, *, max_length: int | None = None
) -> TokenRow:
    """The row of one answer; with ``max_length`` the answer's end is cut.

    Raises DataError where the answer is empty or does not end in an assistant turn, or the prompt
    alone fills ``max_length``.
    """
    if not completion or completion[-1].role != "assistant":
        raise DataError(
            f"prompt {prompt.id}: the answer does not end in an assistant turn",
            hint="each answer needs a last message of role assistant",
        )
    context = (*prompt.messages, *completion[:-1])
    asked = _template_ids(tokenizer, context, prompt, generation=True)
    whole = _template_ids(tokenizer, (*context, completion[-1]), prompt, generation=False)
    if whole[: len(asked)] == asked:
        answer = whole[len(asked) :]
    else:
        answer = _answer_ids(tokenizer, context, completion[-1], prompt)
    row = TokenRow((*asked, *_end_of_turn(tokenizer, answer)), len(asked))
    if max_length is None or len(row.ids) <= max_length:
        return row
    if row.n_prompt >= max_length:
        raise DataError(
            f"prompt {prompt.id}: its {row.n_prompt} tokens fill max_length {max_length}",
            hint="raise max_length",
        )
    return TokenRow(row.ids[:max_length], row.n_prompt)


def encode_pair(
    tokenizer: Any, prompt: Prompt, chosen: Messages, rejected: Messages, *, max_length: int
) -> TokenPair | None:
    """Both rows, or None where a prompt fills ``max_length`` and leaves nothing to compare.

    Where either side is longer than ``max_length`` both lose their end: a pair in which only one
    side keeps its end-of-turn token would teach when to stop, not which answer is better.
    """
    rows = [encode_row(tokenizer, prompt, side) for side in (chosen, rejected)]
    if all(len(row.ids) <= max_length for row in rows):
        return TokenPair(rows[0], rows[1], truncated=False)
    cut = [TokenRow(row.ids[: min(max_length, len(row.ids) - 1)], row.n_prompt) for row in rows]
    if any(row.n_completion < 1 for row in cut):
        return None
    return TokenPair(cut[0], cut[1], truncated=True)


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


def _template_ids(
    tokenizer: Any, messages: Sequence[Message], prompt: Prompt, *, generation: bool
) -> list[int]:
    text = _render(tokenizer, messages, prompt, generation=generation)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _render(
    tokenizer: Any, messages: Sequence[Message], prompt: Prompt, *, generation: bool
) -> str:
    # Imported here: jinja2 is in the base install, and only a broken template needs it.
    from jinja2.exceptions import TemplateError

    turns = template_messages(messages)
    tools = json.loads(prompt.tools) if prompt.tools else None
    try:
        return str(
            tokenizer.apply_chat_template(
                turns, tools=tools, tokenize=False, add_generation_prompt=generation
            )
        )
    except TemplateError as error:
        raise DataError(
            f"prompt {prompt.id}: the model's chat template refuses it: {error}",
            hint="check the order of roles (many templates want user and assistant in turn)",
        ) from None


def _answer_ids(
    tokenizer: Any, context: Sequence[Message], answer: Message, prompt: Prompt
) -> list[int]:
    """The answer's tokens where a token would span the border, or the template rewrites history.

    An engine's answer starts at the border, so what the template puts after it is tokenised alone.
    """
    before = _render(tokenizer, context, prompt, generation=True)
    whole = _render(tokenizer, (*context, answer), prompt, generation=False)
    if not whole.startswith(before):
        raise ModelError(
            f"prompt {prompt.id}: the chat template renders the prompt differently once it is "
            "answered, so the answer's tokens cannot be told from the prompt's",
            hint="use a template whose text with the generation prompt begins the whole text",
        )
    return list(tokenizer(whole[len(before) :], add_special_tokens=False)["input_ids"])


def _end_of_turn(tokenizer: Any, answer: list[int]) -> list[int]:
    """``answer`` up to and with its end-of-turn token.

    Templates write a line break after it, which no engine samples; a template that ends a turn
    without any special token gets the end-of-text token that engines stop at.
    """
    special = _special_ids(tokenizer)
    end = len(answer)
    while end and answer[end - 1] not in special:
        if tokenizer.decode(answer[end - 1 : end]).strip():
            break
        end -= 1
    if end and answer[end - 1] in special:
        return answer[:end]
    if tokenizer.eos_token_id is None:
        return answer
    return [*answer, int(tokenizer.eos_token_id)]


def _special_ids(tokenizer: Any) -> frozenset[int]:
    added = tokenizer.added_tokens_decoder
    return frozenset(i for i, token in added.items() if token.special) | frozenset(
        tokenizer.all_special_ids
    )
