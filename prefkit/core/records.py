"""The records that flow between stages: frozen dataclasses, ids derived from content.

Who validates: the reader of a file, the HTTP route, the command line. Inside, a record is
trusted. Missing is None. Times are aware UTC. The Arrow schemas are in formats/schema.py.

a and b name the two sides before a label exists, chosen and rejected after; left and right
exist on a screen only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

from prefkit.core.errors import DataError
from prefkit.core.ids import content_id

Choice = Literal["a", "b", "tie", "both_bad", "invalid", "skip", "withdrawn"]
CHOICES: tuple[Choice, ...] = ("a", "b", "tie", "both_bad", "invalid", "skip", "withdrawn")
RaterKind = Literal["human", "judge", "reward", "rule"]
TaskKind = Literal["label", "gold", "repeat", "adjudicate"]
Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a message: text, or the path of an image or audio file."""

    kind: Literal["text", "image", "audio"]
    text: str | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. ``tool_calls`` is JSON text as the chat template takes it."""

    role: str
    parts: tuple[Part, ...]
    tool_calls: str | None = None
    name: str | None = None

    @classmethod
    def of(cls, role: str, text: str) -> Self:
        """A message of one text part."""
        return cls(role, (Part("text", text),))

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text or "" for part in self.parts if part.kind == "text")

    def canonical(self) -> dict[str, Any]:
        """What ids are made of: absent fields left out."""
        body: dict[str, Any] = {
            "role": self.role,
            "parts": [[p.kind, p.text if p.kind == "text" else p.path] for p in self.parts],
        }
        if self.tool_calls is not None:
            body["tool_calls"] = self.tool_calls
        if self.name is not None:
            body["name"] = self.name
        return body


Messages = tuple[Message, ...]


def text_of(messages: Sequence[Message]) -> str:
    """The text of all messages, one blank line between them."""
    return "\n\n".join(message.text for message in messages)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked: all messages before the answer."""

    id: str
    messages: Messages
    tools: str | None = None
    source: str = ""
    tags: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def make(
        cls,
        messages: Sequence[Message],
        *,
        tools: str | None = None,
        source: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> Self:
        """A prompt with its id (messages + tools); source and tags do not change the id."""
        identity = {"messages": [m.canonical() for m in messages], "tools": tools}
        return cls(content_id(identity), tuple(messages), tools, source, dict(tags or {}))

    @property
    def text(self) -> str:
        """All turns as plain text."""
        return text_of(self.messages)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn. temperature 0 is greedy; max_tokens counts new tokens."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256

    def canonical(self) -> dict[str, float | int]:
        """What ids are made of."""
        return {
            "temperature": float(self.temperature),
            "top_p": float(self.top_p),
            "max_tokens": self.max_tokens,
        }


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer to one prompt.

    model: digest of the weights (and adapter) that wrote it. finish_reason: "stop", "length" or
    None where unknown. logprob: summed over its tokens, in nats, None where not recorded.
    """

    id: str
    prompt_id: str
    messages: Messages
    model: str
    sampling: Sampling | None = None
    seed: int | None = None
    sample_index: int = 0
    finish_reason: str | None = None
    logprob: float | None = None

    @classmethod
    def make(
        cls,
        prompt_id: str,
        messages: Sequence[Message],
        model: str,
        *,
        sampling: Sampling | None = None,
        seed: int | None = None,
        sample_index: int = 0,
        finish_reason: str | None = None,
        logprob: float | None = None,
    ) -> Self:
        """A completion with its id (prompt, text, model, sampling, seed, sample index)."""
        identity = {
            "prompt_id": prompt_id,
            "messages": [m.canonical() for m in messages],
            "model": model,
            "sampling": sampling.canonical() if sampling else None,
            "seed": seed,
            "sample_index": sample_index,
        }
        return cls(
            content_id(identity),
            prompt_id,
            tuple(messages),
            model,
            sampling,
            seed,
            sample_index,
            finish_reason,
            logprob,
        )

    @property
    def text(self) -> str:
        """All turns of the answer as plain text."""
        return text_of(self.messages)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers to one prompt. Slot a is the lower completion id, so a slot tells nothing."""

    id: str
    prompt: Prompt
    a: Completion
    b: Completion
    origin: str = ""

    @classmethod
    def make(cls, prompt: Prompt, one: Completion, other: Completion, *, origin: str = "") -> Self:
        """A comparison with slots by completion id and an id that is free of order."""
        if one.id == other.id:
            raise DataError(f"prompt {prompt.id}: a completion cannot be compared with itself")
        a, b = sorted((one, other), key=lambda completion: completion.id)
        return cls(content_id({"prompt": prompt.id, "a": a.id, "b": b.id}), prompt, a, b, origin)


@dataclass(frozen=True, slots=True)
class Task:
    """What is served to raters: a comparison that wants exactly k non-late votes."""

    id: str
    comparison_id: str
    kind: TaskKind = "label"
    k: int = 1


@dataclass(frozen=True, slots=True)
class Vote:
    """One verdict of one rater on one task; append-only.

    id: UUID made by the client, so a retried vote counts once. strength: 0–3 (1 slightly,
    2 better, 3 much better), None where not asked. p_a: P(a wins) as a machine gave it.
    confidence: in [0, 1]. shown_first: the slot on the left (or first in the judge's text).
    """

    id: str
    task_id: str
    comparison_id: str
    rater: str
    rater_kind: RaterKind
    choice: Choice
    at: datetime
    strength: int | None = None
    p_a: float | None = None
    confidence: float | None = None
    aspects: Mapping[str, str] = field(default_factory=dict[str, str])
    rationale: str | None = None
    edit: str | None = None
    shown_first: Literal["a", "b"] | None = None
    active_ms: int | None = None
    guideline_version: str | None = None
    late: bool = False
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class Preference:
    """What is believed of a comparison after aggregation; can always be rebuilt from votes.

    p_a: P(a fresh rater prefers a), in [0, 1]. disagreement: in [0, 1], the mean pairwise
    disagreement of the counted votes, None below two. margin: in the units of the method, sign
    towards a, None where the method gives none. votes: JSON list of the votes that counted.
    """

    comparison_id: str
    p_a: float
    n_votes: int
    disagreement: float | None
    weight: float
    margin: float | None
    votes: str | None
    method: str
    version: str


@dataclass(frozen=True, slots=True)
class Example:
    """A training pair; p = P(chosen wins) in [0.5, 1] when built here.

    margin has its sign towards chosen. evidence: JSON object (where the row came from).
    """

    id: str
    prompt: Prompt
    chosen: Messages
    rejected: Messages
    p: float = 1.0
    weight: float = 1.0
    margin: float | None = None
    votes: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    evidence: str | None = None

    @classmethod
    def make(
        cls,
        prompt: Prompt,
        chosen: Sequence[Message],
        rejected: Sequence[Message],
        *,
        p: float = 1.0,
        weight: float = 1.0,
        margin: float | None = None,
        votes: str | None = None,
        tags: Mapping[str, str] | None = None,
        evidence: str | None = None,
    ) -> tuple[Self, bool]:
        """The example, and whether its sides were swapped because p < 0.5.

        p = 0.5 keeps the given order. The id depends on the prompt and the two answers in
        training order, not on p.
        """
        flipped = p < 0.5
        if flipped:
            chosen, rejected, p = rejected, chosen, 1.0 - p
            margin = None if margin is None else -margin
        identity = {
            "prompt": prompt.id,
            "chosen": [m.canonical() for m in chosen],
            "rejected": [m.canonical() for m in rejected],
        }
        example = cls(
            content_id(identity),
            prompt,
            tuple(chosen),
            tuple(rejected),
            p,
            weight,
            margin,
            votes,
            dict(tags or {}),
            evidence,
        )
        return example, flipped


@dataclass(frozen=True, slots=True)
class TrainRow:
    """What a trainer sees: a prompt, its completions and what is known of them.

    target "pair": completions = (chosen, rejected), p = P(first wins). "unpaired": one
    completion, p = P(it is desirable). "ranking": best first. "demonstration": one completion.
    Both have p = 1, or that of the pair they were made of. A prompt without messages: the
    completions are raw text, for no chat template. votes, evidence: JSON as in Example. arguments:
    what the chat template is given besides messages and tools. place: where the row was read
    ("pairs.jsonl:17"), "" where it was not. pair: the id of the pair whose one answer this is, ""
    where it is none.
    """

    id: str
    prompt: Prompt
    completions: tuple[Messages, ...]
    target: Literal["pair", "unpaired", "ranking", "demonstration"]
    p: float = 1.0
    weight: float = 1.0
    margin: float | None = None
    votes: str | None = None
    evidence: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    place: str = ""
    pair: str = ""

    @property
    def name(self) -> str:
        """How messages name the row: its id, and its place where that is known."""
        return f"row {self.id} ({self.place})" if self.place else f"row {self.id}"

    @classmethod
    def of(cls, example: Example) -> Self:
        """The two-completion view of an example."""
        return cls(
            example.id,
            example.prompt,
            (example.chosen, example.rejected),
            "pair",
            example.p,
            example.weight,
            example.margin,
            example.votes,
            example.evidence,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Curation's word on a row. Exactly one a row is terminal (action "keep" or "drop")."""

    row_id: str
    stage: str
    action: Literal["keep", "drop"]
    reason: str
    score: float | None
    threshold: str | None
    matched_row: str | None
    recipe: str
