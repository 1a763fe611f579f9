"""The loop: rounds of stages, each resumable; it waits for people by ending.

Every stage's manifest says whether it stands, so the state of a loop is its files: a run after
a kill, or after people have voted, goes on where it stood and repeats nothing that is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefkit.core.errors import ConfigError, PrefkitError
from prefkit.core.progress import Progress, silent
from prefkit.curation import read_recipe
from prefkit.generation import PAIRINGS
from prefkit.judging.raters import rater_names, unknown_rater
from prefkit.judging.rules import RULES
from prefkit.policy.resolve import resolve_model
from prefkit.rounds.comparing import answer_base, evaluate_round
from prefkit.rounds.memory import PeakMemory
from prefkit.rounds.project import Project, read_project
from prefkit.rounds.prompts import RoundPrompts
from prefkit.rounds.report import write_report
from prefkit.rounds.stages import (
    Job,
    Waiting,
    aggregate_round,
    curate_round,
    generate_round,
    plan_prompts,
    train_round,
    vote_round,
)
from prefkit.store import VoteStore
from prefkit.workspace import Manifest, Workspace, read_manifest

STAGES = ("prompts", "generate", "vote", "aggregate", "curate", "train", "evaluate")


@dataclass(frozen=True, slots=True)
class LoopResult:
    """Where a loop stands: done, or waiting for people in one round.

    rounds: the summary of each finished round, see ``round_summary``. peak_gib: of this run.
    report: None before the first round is finished.
    """

    state: Literal["done", "waiting"]
    rounds: list[dict[str, Any]]
    waiting: Waiting | None
    peak_gib: float
    report: Path | None


def run_loop(
    workspace: Workspace,
    *,
    overrides: Sequence[str] = (),
    progress: Progress = silent,
) -> LoopResult:
    """Run the rounds of prefkit.yaml until all are done or one must wait for people."""
    with workspace.locked(), PeakMemory() as memory:
        job = open_job(workspace, overrides=overrides, progress=progress)
        try:
            waiting = _run_rounds(job)
        finally:
            job.store.close()
    # What stands of the rounds after the one that waits was made from other votes.
    n_finished = waiting.round - 1 if waiting else job.project.loop.rounds
    summaries = [
        summary
        for number in range(1, n_finished + 1)
        if (summary := round_summary(workspace, number))
    ]
    report = None
    if summaries:
        report = write_report(workspace, summaries, job.project, model_path=job.source.path)
    return LoopResult("waiting" if waiting else "done", summaries, waiting, memory.gib, report)


def open_job(
    workspace: Workspace, *, overrides: Sequence[str] = (), progress: Progress = silent
) -> Job:
    """Read the configuration, prompts and model and open the store; all faults come from here."""
    project = read_project(workspace, overrides)
    _check_names(project, workspace)
    prompts = RoundPrompts.read(
        workspace.path / project.prompts, n_heldout=project.heldout_prompts, seed=project.seed
    )
    source = resolve_model(project.model, progress=progress)
    store = VoteStore.open(project.annotate.store or workspace.store_path, home=workspace.path)
    return Job(workspace, project, source, store, prompts, progress)


def _check_names(project: Project, workspace: Workspace) -> None:
    """ConfigError with every name that no stage would know, before the first one samples."""
    faults: list[str] = []
    curate = project.curate
    recipe = curate.recipe_in(workspace.path)
    if project.judge.rater not in rater_names():
        faults.append(f"judge.rater: {_said(unknown_rater(project.judge.rater))}")
    checks: list[tuple[str, Callable[[], object]]] = [
        ("generate.pairing", lambda: PAIRINGS.get(project.generate.pairing)),
        ("curate", lambda: read_recipe(recipe, curate.overrides)),
        ("evaluate.rule", lambda: project.evaluate.rule and RULES.get(project.evaluate.rule)),
    ]
    for key, check in checks:
        try:
            check()
        except PrefkitError as error:
            faults.append(f"{key}: {_said(error)}")
    if faults:
        raise ConfigError("\n".join(f"{workspace.config_path}: {fault}" for fault in faults))


def _said(error: PrefkitError) -> str:
    return error.message + (f" ({error.hint})" if error.hint else "")


def _run_rounds(job: Job) -> Waiting | None:
    curated: list[Manifest] = []
    for number in range(1, job.project.loop.rounds + 1):
        planned = plan_prompts(job, number)
        generated = generate_round(job, number, planned)
        voted = vote_round(job, number, generated)
        if isinstance(voted, Waiting):
            return voted
        aggregated = aggregate_round(job, number, voted)
        curated.append(curate_round(job, number, aggregated))
        trained = train_round(job, number, curated)
        base = answer_base(job)
        evaluate_round(job, number, base, trained)
    return None


def round_summary(workspace: Workspace, number: int) -> dict[str, Any] | None:
    """The figures of a finished round, or None where it is not finished.

    ``n_prompts`` counts the held-out prompts of the comparison, ``n_train_prompts`` those asked
    for training. ``ci95`` is [low, high]; rates are in 0–1.
    """
    folder = workspace.round_path(number)
    manifests = {stage: read_manifest(folder, stage) for stage in STAGES}
    if manifests["evaluate"] is None:
        return None
    facts = {stage: dict(m.facts) if m else {} for stage, m in manifests.items()}
    summary: dict[str, Any] = {"round": number, **facts["evaluate"]}
    summary["n_train_prompts"] = facts["prompts"]["n_prompts"]
    for stage, names in _SHOWN.items():
        summary |= {name: facts[stage].get(name) for name in names}
    summary["seconds"] = {stage: m.seconds for stage, m in manifests.items() if m}
    summary["adapter"] = str(folder / "train" / "adapter")
    return summary


_SHOWN = {
    "generate": ("n_candidates", "n_comparisons", "backend"),
    "vote": ("n_votes", "choices"),
    "aggregate": ("n_preferences", "n_without_preference"),
    "curate": ("n_kept", "n_dropped", "dropped"),
    "train": ("n_examples", "steps", "first_loss", "last_loss"),
}


def stage_states(workspace: Workspace, number: int) -> list[tuple[str, Manifest | None]]:
    """Each stage of a round with its manifest, None where it is not finished."""
    folder: Path = workspace.round_path(number)
    return [(stage, read_manifest(folder, stage)) for stage in STAGES]
