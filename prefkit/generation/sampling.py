"""prefkit.generate: prompts in, candidates and comparisons out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from prefkit.core.errors import DataError
from prefkit.core.progress import Progress, silent
from prefkit.core.records import Comparison, Completion, Message, Prompt
from prefkit.engines import Request, choose_backend, sample, source_for, worker_facts
from prefkit.generation.pairing import PAIRINGS, pair
from prefkit.generation.settings import GenerateSettings
from prefkit.policy.resolve import DEFAULT_MODEL, ModelSource


@dataclass(frozen=True, slots=True)
class Generated:
    """All candidates (n a prompt, in the prompts' order) and the comparisons made of them.

    counts: prompts, repeated_prompts (left out), unanswered_prompts, candidates, unfinished
    (stopped by max_tokens), empty, identical, unpaired_prompts, comparisons. peak_gib: of the
    engine's process that finished last in this journal.
    """

    completions: list[Completion]
    comparisons: list[Comparison]
    backend: str
    counts: dict[str, int]
    peak_gib: float | None


def generate(
    prompts: str | Path | Sequence[str] | Sequence[Prompt],
    model: str | ModelSource = DEFAULT_MODEL,
    settings: GenerateSettings | None = None,
    *,
    adapter: str | Path | None = None,
    journal: Path | None = None,
    progress: Progress = silent,
) -> Generated:
    """Draw ``settings.n`` answers to each prompt and pair them.

    prompts: a file, questions as text, or records. journal: a folder that keeps what is sampled,
    so that a killed run goes on; without one a temporary folder is used. Raises DataError for no
    prompts, ModelError for a model that cannot be used, EngineError for an engine that stops.
    """
    settings = settings or GenerateSettings()
    PAIRINGS.get(settings.pairing)  # an unknown name fails before a model is loaded
    records, n_repeated = as_prompts(prompts)
    unique = list({prompt.id: prompt for prompt in records}.values())
    source = (
        model
        if isinstance(model, ModelSource)
        else source_for(model, settings.engine, progress=progress)
    )
    requests = [Request(p, settings.n, settings.sampling, settings.seed) for p in unique]
    with ExitStack() as stack:
        if journal is None:
            journal = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prefkit-")))
        completions = sample(
            requests,
            source=source,
            adapter=Path(adapter) if adapter else None,
            settings=settings.engine,
            journal=journal,
            progress=progress,
        )
        facts = worker_facts(journal)
    comparisons, left_out = pair(unique, completions, settings, settings.seed)
    counts = {
        "prompts": len(unique),
        "repeated_prompts": n_repeated + len(records) - len(unique),
        "unanswered_prompts": len(unique) - len({c.prompt_id for c in completions}),
        "candidates": len(completions),
        **left_out,
        "comparisons": len(comparisons),
    }
    return Generated(
        completions, comparisons, choose_backend(settings.engine), counts, facts.get("peak_gib")
    )


def as_prompts(prompts: str | Path | Iterable[str] | Iterable[Prompt]) -> tuple[list[Prompt], int]:
    """Prompt records of a file, of plain questions, or as they are; DataError if there are none.

    The number is of repeated prompts that the reader of a file has left out already.
    """
    n_repeated = 0
    if isinstance(prompts, str | Path):
        from prefkit.formats.prompts import read_prompts

        records, counts = read_prompts(Path(prompts))
        n_repeated = counts["n_repeated"]
        where = str(prompts)
    else:
        where = "prompts"
        records = [
            Prompt.make([Message.of("user", item)]) if isinstance(item, str) else item
            for item in prompts
        ]
    if not records:
        raise DataError(f"{where}: no prompts", hint="give at least one question")
    return records, n_repeated
