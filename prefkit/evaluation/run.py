"""The verb: two policies answer the same prompts, and a verdict says which does better."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefkit.core.errors import DataError
from prefkit.core.progress import Progress, silent
from prefkit.core.records import Completion, Prompt
from prefkit.engines import source_for
from prefkit.evaluation.answers import AnswerLengths, answer_lengths, greedy_answers
from prefkit.evaluation.settings import EvaluateSettings
from prefkit.evaluation.win_rate import Verdict, WinRate, win_rate
from prefkit.policy.resolve import ModelSource


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt with the two answers; outcome 1 if ``new`` won, 0 lost, None no verdict."""

    prompt_id: str
    prompt: str
    base: str
    new: str
    outcome: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The win rate of the new policy, the lengths of both sides' answers, and every answer."""

    result: WinRate
    new_lengths: AnswerLengths
    base_lengths: AnswerLengths
    samples: list[Sample]


def evaluate(
    model: str | ModelSource,
    adapter: Path | None,
    prompts: Sequence[Prompt],
    verdict: Verdict,
    settings: EvaluateSettings | None = None,
    *,
    against: Path | None = None,
    journal: Path | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """The win rate of ``model`` with ``adapter`` over the same model with ``against``.

    ``against`` None is the model without an adapter. verdict(prompt, new, base) gives 1, 0.5 or
    0, or None for no verdict (skipped, counted); ``prefkit.judging.rule_verdict`` is one. journal:
    a folder that keeps answers, so that the base policy answers once; None for a temporary one.
    Raises DataError for no prompts, ModelError for a model or adapter that cannot be used.
    """
    if not prompts:
        raise DataError("no prompts to evaluate on", hint="give a file with at least one prompt")
    settings = settings or EvaluateSettings()
    unique = list({prompt.id: prompt for prompt in prompts}.values())
    source = _source(model, settings, progress)
    with tempfile.TemporaryDirectory(prefix="prefkit-evaluate-") as scratch:
        folder = journal or Path(scratch)
        answers = [
            greedy_answers(unique, source, which, settings, journal=folder, progress=progress)
            for which in (against, adapter)
        ]
    return compare_answers(unique, new=answers[1], base=answers[0], verdict=verdict)


def _source(
    model: str | ModelSource, settings: EvaluateSettings, progress: Progress
) -> ModelSource:
    if isinstance(model, ModelSource):
        return model
    return source_for(model, settings.engine, progress=progress)


def compare_answers(
    prompts: Sequence[Prompt],
    *,
    new: Sequence[Completion],
    base: Sequence[Completion],
    verdict: Verdict,
) -> Evaluation:
    """The same from answers that exist already; samples are of prompts answered by both."""
    result = win_rate(prompts, new, base, verdict)
    news = {answer.prompt_id: answer.text for answer in new}
    bases = {answer.prompt_id: answer.text for answer in base}
    samples = [
        Sample(p.id, p.text, bases[p.id], news[p.id], verdict(p, news[p.id], bases[p.id]))
        for p in prompts
        if p.id in news and p.id in bases
    ]
    return Evaluation(result, answer_lengths(new), answer_lengths(base), samples)
