"""The answers that are compared: one greedy answer a prompt, and how long they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from prefkit.core.progress import Progress, silent
from prefkit.core.records import Completion, Prompt, Sampling
from prefkit.engines import Request, sample
from prefkit.evaluation.settings import EvaluateSettings
from prefkit.policy.resolve import ModelSource


@dataclass(frozen=True, slots=True)
class AnswerLengths:
    """Lengths of a set of answers in words (runs between spaces).

    share_unfinished: of the answers that stopped at the token limit; None where no answer says
    why it stopped. mean_words and median_words are None for no answers.
    """

    mean_words: float | None
    median_words: float | None
    share_unfinished: float | None


def greedy_answers(
    prompts: Sequence[Prompt],
    source: ModelSource,
    adapter: Path | None,
    settings: EvaluateSettings,
    *,
    journal: Path,
    progress: Progress = silent,
) -> list[Completion]:
    """One greedy answer for each prompt, in the order of the prompts.

    The journal keeps answers by model, adapter, prompt and sampling: asked again with the same
    folder, nothing is sampled twice.
    """
    sampling = Sampling(temperature=0.0, max_tokens=settings.max_tokens)
    return sample(
        [Request(prompt, 1, sampling, 0) for prompt in prompts],
        source=source,
        adapter=adapter,
        settings=settings.engine,
        journal=journal,
        progress=progress,
    )


def answer_lengths(answers: Sequence[Completion]) -> AnswerLengths:
    """The lengths of ``answers``: what a rule about form changes first."""
    lengths = [len(answer.text.split()) for answer in answers]
    reasons = [a.finish_reason for a in answers if a.finish_reason is not None]
    return AnswerLengths(
        mean_words=round(fmean(lengths), 2) if lengths else None,
        median_words=float(median(lengths)) if lengths else None,
        share_unfinished=(
            round(sum(r == "length" for r in reasons) / len(reasons), 4) if reasons else None
        ),
    )
