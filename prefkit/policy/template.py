"""Dialogues to token trees: which tokens are asked, which are scored.

The prompt is tokenised as engines are asked it; an answer's tokens are what follows, up to and
with its end-of-turn token, as engines return them. Segments are tokenised apart, so no token ever
spans a border between what is read and what is scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prefkit.core.errors import DataError, ModelError
from prefkit.core.records import Message, Messages, Part, Prompt
from prefkit.policy.rendering import (
    Renderer,
    Segment,
    closing_text,
    plain_prompt,
    plain_segments,
)
from prefkit.policy.trees import Branch, Tree

Truncation = Literal["answers", "prompt", "drop"]
Ids = NDArray[np.int32]
# Exchanges tokenised in one call: enough for the tokenizer's threads, little beside the data.
AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Exchange:
    """A prompt, the answers to it, and what the chat template is given beside them."""

    prompt: Prompt
    completions: tuple[Messages, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)


def encode_prompt(
    tokenizer: Any, prompt: Prompt, *, arguments: Mapping[str, Any] | None = None
) -> list[int]:
    """Token ids of the prompt with the generation prompt: what an engine continues.

    arguments: what the chat template is given besides messages and tools. Without a chat template
    a prompt of one user turn is its text, behind the tokenizer's own begin-of-text token.
    """
    if tokenizer.chat_template is None:
        return [*_beginning(tokenizer), *_tokenise(tokenizer, [plain_prompt(prompt)])[0]]
    text = Renderer(tokenizer, prompt, arguments or {}).text(prompt.messages, generation=True)
    return _tokenise(tokenizer, [text])[0]


def encode_tree(
    tokenizer: Any,
    prompt: Prompt,
    completions: Sequence[Messages],
    *,
    arguments: Mapping[str, Any] | None = None,
    chat: bool | None = None,
) -> Tree:
    """The tree of one prompt and its completions, untruncated; arguments as in encode_trees.

    Raises DataError for messages the template or a text model cannot take, ModelError for a
    template whose answers cannot be told from the prompt.
    """
    exchange = Exchange(prompt, tuple(completions), arguments or {})
    found = next(encode_trees(tokenizer, [exchange], chat=chat))
    if isinstance(found, Tree):
        return found
    raise found


def encode_trees(
    tokenizer: Any, exchanges: Sequence[Exchange], *, chat: bool | None = None
) -> Iterator[Tree | DataError | ModelError]:
    """One tree an exchange, or the error that says why there is none; in order.

    Every assistant turn of a completion is scored with its end-of-turn token, no other turn is.
    What the completions share before their first scored token is the prompt; where the template
    renders it differently, the rest goes to the branches, unscored. A prompt without messages is
    raw text: the tokens that its completions share are the prompt, the others are scored.

    chat: whether dialogues go through the chat template, None for where there is one. Without it
    prompt and answer stand one after the other, closed by the end-of-text token.
    """
    coder = _Coder(tokenizer, tokenizer.chat_template is not None if chat is None else chat)
    for start in range(0, len(exchanges), AT_ONCE):
        yield from coder.trees(exchanges[start : start + AT_ONCE])


def merging(
    tokenizer: Any, exchanges: Sequence[Exchange], *, chat: bool | None = None
) -> list[bool]:
    """For each exchange, whether an answer tokenised together with its prompt has other tokens.

    Trainers that tokenise both at once teach such rows a token that engines never see there.
    """
    coder = _Coder(tokenizer, tokenizer.chat_template is not None if chat is None else chat)
    starts = range(0, len(exchanges), AT_ONCE)
    return [odd for start in starts for odd in coder.merges(exchanges[start : start + AT_ONCE])]


def special_ids(tokenizer: Any) -> frozenset[int]:
    """The ids that are marks and no text: added tokens called special, bos, eos and the like."""
    added = tokenizer.added_tokens_decoder
    return frozenset(i for i, token in added.items() if token.special) | frozenset(
        tokenizer.all_special_ids
    )


def truncate(tree: Tree, max_length: int, policy: Truncation, *, n_head: int = 0) -> Tree | None:
    """``tree`` where prompt and longest branch fit ``max_length`` tokens; else cut, or None.

    answers: every branch loses its end, the short ones at least their end-of-turn token: a pair in
    which one side alone stops would teach when to stop, not which answer is better. prompt: the
    prompt's oldest tokens go, all but the first ``n_head`` (the system turn). drop: None. None too
    where nothing that is scored would be left of a branch, or nothing of the prompt.
    """
    over = tree.longest - max_length
    if over <= 0:
        return tree
    n_prompt = len(tree.prompt)
    if policy == "prompt":
        if n_prompt - over <= n_head:
            return None
        rest = tree.prompt[n_head + over :]
        return Tree(np.concatenate([tree.prompt[:n_head], rest]), tree.branches)
    if policy == "drop" or n_prompt >= max_length:
        return None
    cut = [_cut(branch, max_length - n_prompt) for branch in tree.branches]
    kept = tuple(branch for branch in cut if branch is not None)
    return Tree(tree.prompt, kept) if len(kept) == len(cut) else None


def _cut(branch: Branch, room: int) -> Branch | None:
    """The first ``room`` tokens at most, ending within a scored turn, before its last token."""
    n = min(room, len(branch.ids) - 1)
    while n > 0:
        ended = n == len(branch.ids) or not branch.scored[n]
        if branch.scored[n - 1] and not ended:
            return Branch(branch.ids[:n], branch.scored[:n])
        n -= 1
    return None


def head_length(tokenizer: Any, exchange: Exchange, tree: Tree, *, chat: bool | None = None) -> int:
    """How many leading tokens of ``tree.prompt`` are begin-of-text, system turn, first header.

    What prompts that differ in the first turn's text have in common; ``n_head`` of ``truncate``.
    """
    messages = exchange.prompt.messages
    if not messages or not (tokenizer.chat_template is not None if chat is None else chat):
        return int(tree.prompt[0] == tokenizer.bos_token_id)
    n = next((i for i, m in enumerate(messages) if m.role != "system"), len(messages) - 1)
    turn = messages[n]
    other = Message(turn.role, (Part("text", f"#{turn.text}"),), turn.tool_calls, turn.name)
    renderer = Renderer(tokenizer, exchange.prompt, exchange.arguments)
    texts = [renderer.text((*messages[:n], first), generation=True) for first in (turn, other)]
    rows = [np.array(ids, np.int32) for ids in _tokenise(tokenizer, texts)]
    return _n_shared([tree.prompt, *rows])


class _Coder:
    """What is asked of a tokenizer once: its ends of turn, its spaces, how it goes on."""

    def __init__(self, tokenizer: Any, chat: bool) -> None:
        self.tokenizer = tokenizer
        self.chat = chat
        self.special = special_ids(tokenizer)
        self.eos: int | None = tokenizer.eos_token_id
        self.closing, self.end_of_turn = self._ends() if chat else ("", self.eos)
        self.goes_on = goes_on(tokenizer)
        self.blank: dict[int, bool] = {}

    def trees(self, exchanges: Sequence[Exchange]) -> Iterator[Tree | DataError | ModelError]:
        """One tree or error an exchange; all texts go to the tokenizer in one call."""
        cut = [self._attempted(exchange) for exchange in exchanges]
        given = [item for item in cut if isinstance(item, list)]
        ids = self._ids_of({text for item in given for row in item for text in self._texts(row)})
        for exchange, item in zip(exchanges, cut, strict=True):
            if not isinstance(item, list):
                yield item
                continue
            rows = [self._row(segments, ids) for segments in item]
            yield self._tree(exchange, rows)

    def merges(self, exchanges: Sequence[Exchange]) -> list[bool]:
        """Whether any completion's tokens change when its row is tokenised as one text."""
        rows = [self._attempted(exchange) for exchange in exchanges]
        given = [segments for row in rows if isinstance(row, list) for segments in row]
        texts = {text for segments in given for text in (*self._texts(segments), _joined(segments))}
        ids = self._ids_of(texts)
        return [
            isinstance(row, list) and any(self._merged(segments, ids) for segments in row)
            for row in rows
        ]

    def _merged(self, segments: Sequence[Segment], ids: Mapping[str, list[int]]) -> bool:
        apart = self._row(segments, ids)[0].tolist()
        joint = [*self._begun(segments), *ids[_joined(segments)]]
        n = min(len(apart), len(joint))  # one is cut behind the end of turn, or closed by it
        return apart[:n] != joint[:n] or len(apart) - len(joint) > 1

    def _begun(self, segments: Sequence[Segment]) -> list[int]:
        """The begin-of-text token, unless a template has the say."""
        return [] if self.chat and segments[0].text else _beginning(self.tokenizer)

    def _attempted(self, exchange: Exchange) -> list[list[Segment]] | DataError | ModelError:
        try:
            return self._segments(exchange)
        except (DataError, ModelError) as error:
            return error

    def _ids_of(self, texts: set[str]) -> dict[str, list[int]]:
        """The ids of each text, in one call of the tokenizer."""
        ordered = sorted(texts)
        return dict(zip(ordered, _tokenise(self.tokenizer, ordered), strict=True))

    def _segments(self, exchange: Exchange) -> list[list[Segment]]:
        prompt = exchange.prompt
        if not self.chat or not prompt.messages:
            return [plain_segments(prompt, answer) for answer in exchange.completions]
        renderer = Renderer(self.tokenizer, prompt, exchange.arguments)
        asked = renderer.text(prompt.messages, generation=True)
        return [renderer.segments(asked, answer, self.closing) for answer in exchange.completions]

    def _texts(self, segments: Sequence[Segment]) -> list[str]:
        """What has to be tokenised of a row: its segments or, where a text's tokens depend on
        whether it begins the row, everything up to each border too."""
        apart = [segment.text for segment in segments]
        if self.goes_on:
            return apart
        return [*apart, *("".join(apart[: n + 1]) for n in range(len(apart)))]

    def _row(
        self, segments: Sequence[Segment], ids: Mapping[str, list[int]]
    ) -> tuple[Ids, NDArray[np.bool_]]:
        """Ids (T,) and scored (T,) of one completion behind its prompt."""
        row = self._begun(segments)
        n_begin = len(row)
        scored = [False] * n_begin
        upto = ""
        for index, segment in enumerate(segments):
            upto += segment.text
            whole = None if self.goes_on else ids[upto]
            if whole is not None and whole[: len(row) - n_begin] == row[n_begin:]:
                piece = whole[len(row) - n_begin :]
            else:
                piece = ids[segment.text]
            last = index == len(segments) - 1
            n_scored = len(piece)
            if segment.scored:
                n_scored, piece = self._closed(piece, last)
            row += piece
            scored += [segment.scored] * n_scored + [False] * (len(piece) - n_scored)
        return np.array(row, np.int32), np.array(scored, np.bool_)

    def _closed(self, answer: list[int], last: bool) -> tuple[int, list[int]]:
        """How many tokens of an assistant turn are scored, and the tokens that stay.

        Templates write a line break (Phi-3 an end-of-text too) after the end-of-turn token, which
        no engine samples: behind the last turn it goes, behind others it is read, unscored. A
        last turn that ends without a special token gets the end-of-text one that engines stop at.
        """
        tail = len(answer)
        while tail and (answer[tail - 1] in self.special or self._is_blank(answer[tail - 1])):
            tail -= 1
        marks = [i for i in range(tail, len(answer)) if answer[i] in self.special]
        ends = [i for i in marks if answer[i] == self.end_of_turn] or marks[-1:]
        if ends:
            n = ends[0] + 1
            return n, answer[:n] if last else answer
        if last and self.eos is not None:
            return len(answer) + 1, [*answer, self.eos]
        return len(answer), answer

    def _tree(
        self, exchange: Exchange, rows: Sequence[tuple[Ids, NDArray[np.bool_]]]
    ) -> Tree | ModelError:
        """One tree of rows that begin alike; what they share unscored is the prompt."""
        shared = _n_shared([ids for ids, _ in rows])
        if exchange.prompt.messages:
            shared = min(shared, *(int(scored.argmax()) for _, scored in rows))
        else:
            # Raw text: at least one token is left to score on every side.
            shared = min(shared, *(len(ids) - 1 for ids, _ in rows)) if len(rows) > 1 else 1
        if shared == 0 and not exchange.prompt.messages and self.eos is not None:
            start = np.array([self.eos], np.int32)
            rows = [
                (np.concatenate([start, ids]), np.concatenate([[False], scored]))
                for ids, scored in rows
            ]
            shared = 1
        if shared == 0:
            return ModelError(
                f"prompt {exchange.prompt.id}: its answers share no first token to begin from",
                hint="use a tokenizer with a begin-of-text token",
            )
        branches = tuple(Branch(ids[shared:], scored[shared:]) for ids, scored in rows)
        return Tree(rows[0][0][:shared], branches)

    def _ends(self) -> tuple[str, int | None]:
        """The text up to and with the template's end-of-turn token after an answer, and its id."""
        closing = closing_text(self.tokenizer)
        ids = _tokenise(self.tokenizer, [closing])[0] if closing else []
        for n, token in enumerate(ids, start=1):
            if token in self.special:
                text = str(self.tokenizer.decode(ids[:n]))
                return (text if closing.startswith(text) else ""), token
        return "", None

    def _is_blank(self, token: int) -> bool:
        if token not in self.blank:
            self.blank[token] = not str(self.tokenizer.decode([token])).strip()
        return self.blank[token]


def goes_on(tokenizer: Any) -> bool:
    """Whether text has the same tokens within a row as alone.

    SentencePiece tokenizers write a space before whatever begins a text: tokenised apart, an
    answer would open with a space that no engine samples.
    """
    for before, after in (("\n", "Hello"), ("]", "x"), ("1", "a")):
        one, two, both = _tokenise(tokenizer, [before, after, before + after])
        if [*one, *two] == both:
            return True
    return False


def _joined(segments: Sequence[Segment]) -> str:
    return "".join(segment.text for segment in segments)


def _beginning(tokenizer: Any) -> list[int]:
    """The begin-of-text token, where the tokenizer itself puts one before a text."""
    bos = tokenizer.bos_token_id
    if bos is None:
        return []
    ids = tokenizer("a")["input_ids"]
    return [bos] if ids[:1] == [bos] else []


def _tokenise(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    if not texts:
        return []
    return tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)[
        "input_ids"
    ]


def _n_shared(rows: Sequence[Ids]) -> int:
    """How many leading tokens all rows have in common."""
    n = min(len(row) for row in rows)
    first = rows[0][:n]
    for row in rows[1:]:
        different = np.flatnonzero(first != row[:n])
        if len(different):
            n = int(different[0])
            first = first[:n]
    return n
