"""A model as judge: asked in both orders, its word read strictly, no word no vote.

A judge prefers a place as much as an answer, so each comparison is put twice, with a first and
with b first, and p_a is the mean of the two verdicts (1 for a, 0 for b, 1/2 for a tie). Orders
that contradict each other meet at 1/2 and become a tie, marked so. A reply that is not exactly
A, B or tie is no verdict; a comparison with such a reply gets no vote and a counted reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from prefkit.core.records import Choice, Comparison, Message, Prompt, Sampling, Vote
from prefkit.engines import Request, sample, source_for
from prefkit.judging.raters import RaterContext, register_rater
from prefkit.judging.votes import Judged, machine_name, machine_vote
from prefkit.policy.resolve import ModelSource

UNPARSEABLE = "the judge's reply is not A, B or tie"
NO_REPLY = "the judge gave no reply"
MAX_TOKENS = 6

TEMPLATE = """{guideline}

[Question]
{question}

[Answer A]
{first}

[Answer B]
{second}

Reply with one word: A, B or tie."""

# "A", "B.", "**tie**", '"A"', "[[B]]": one word and punctuation, nothing else.
_REPLY = re.compile(r"[\s\"'*`\[(]*(?:answer\s+)?(a|b|tie)[\s\"'*`\]).!]*", re.IGNORECASE)


def parse_reply(text: str) -> float | None:
    """1 for A, 0 for B, 0.5 for tie; None for anything else, however much it hints."""
    match = _REPLY.fullmatch(text)
    if match is None:
        return None
    return {"a": 1.0, "b": 0.0, "tie": 0.5}[match.group(1).lower()]


def judge_prompt(comparison: Comparison, guideline: str, *, a_first: bool) -> Prompt:
    """What the judge reads for one order."""
    texts = comparison.a.text, comparison.b.text
    first, second = texts if a_first else texts[::-1]
    body = TEMPLATE.format(
        guideline=guideline, question=comparison.prompt.text, first=first, second=second
    )
    return Prompt.make([Message.of("user", body)], source="judge")


@register_rater("llm")
class LlmJudge:
    """The rater ``llm``: the model of the settings through an engine, greedy, both orders."""

    def __init__(self, context: RaterContext) -> None:
        self.context = context

    def compare(self, comparisons: Sequence[Comparison]) -> Judged:
        """One vote for each comparison with two readable replies; the others counted."""
        settings = self.context.settings
        source = source_for(settings.model, settings.engine, progress=self.context.progress)
        identity = {"model": source.digest, "guideline": settings.guideline}
        asked = [
            tuple(judge_prompt(c, settings.guideline, a_first=first) for first in (True, False))
            for c in comparisons
        ]
        replies = self._replies([prompt for pair in asked for prompt in pair], source)
        name = machine_name("llm", source.spec)
        votes: list[Vote] = []
        failed: Counter[str] = Counter()
        for comparison, (a_first, b_first) in zip(comparisons, asked, strict=True):
            texts = replies.get(a_first.id), replies.get(b_first.id)
            if texts[0] is None or texts[1] is None:
                failed[NO_REPLY] += 1
                continue
            vote = judge_vote(comparison, name, texts[0], texts[1], identity=identity)
            if vote is None:
                failed[UNPARSEABLE] += 1
            else:
                votes.append(vote)
        return Judged(votes, dict(failed))

    def _replies(self, prompts: Sequence[Prompt], source: ModelSource) -> dict[str, str]:
        """The judge's greedy reply by prompt id; equal prompts (equal answers) are asked once."""
        sampling = Sampling(temperature=0.0, max_tokens=MAX_TOKENS)
        unique = {prompt.id: prompt for prompt in prompts}
        answers = sample(
            [Request(prompt, 1, sampling, 0) for prompt in unique.values()],
            source=source,
            adapter=None,
            settings=self.context.settings.engine,
            journal=self.context.journal,
            progress=self.context.progress,
        )
        return {answer.prompt_id: answer.text for answer in answers}


def judge_vote(
    comparison: Comparison,
    rater: str,
    a_first: str,
    b_first: str,
    *,
    identity: Mapping[str, object],
) -> Vote | None:
    """The vote that two replies amount to, or None if either cannot be read.

    strength: 2 where both orders agree, 1 where one of them says tie, 0 for a tie.
    confidence: |2 p_a − 1|.
    """
    first, swapped = parse_reply(a_first), parse_reply(b_first)
    if first is None or swapped is None:
        return None
    p_a = (first + 1.0 - swapped) / 2
    choice: Choice = "tie" if p_a == 0.5 else "a" if p_a > 0.5 else "b"
    confidence = abs(2 * p_a - 1)
    contradiction = first == swapped != 0.5
    return machine_vote(
        comparison,
        rater,
        choice,
        kind="judge",
        strength=round(2 * confidence),
        p_a=p_a,
        confidence=confidence,
        rationale=f"a first: {a_first.strip()}; b first: {b_first.strip()}",
        aspects={"orders": "contradict"} if contradiction else {},
        settings=identity,
    )
