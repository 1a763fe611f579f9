"""The demo: two rounds on the embedded model, with a rule as rater, in an ordinary workspace.

What it does is protocol, not tuning: docs/demo.md says what is measured and was committed
before the seeds that are reported were run.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefkit.core.errors import WorkspaceError
from prefkit.core.files import read_json, write_json
from prefkit.core.progress import Progress, silent
from prefkit.core.records import Comparison
from prefkit.core.rng import derive_seed
from prefkit.formats.tables import read_records, write_records
from prefkit.generation import generate
from prefkit.policy.load import policy_digest
from prefkit.rounds.loop import LoopResult, open_job, run_loop
from prefkit.rounds.memory import PeakMemory
from prefkit.rounds.project import Project, init_workspace
from prefkit.rounds.stages import Job
from prefkit.settings import parse_settings
from prefkit.workspace import CONFIG_NAME, Workspace, run_stage

# At least 20 comparisons are to wait; prompts whose two answers are the same give none.
OFFERED_PROMPTS = 32
MARK = "demo.json"


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo's last screen shows. peak_gib: the largest of all its runs so far."""

    workspace: Workspace
    loop: LoopResult
    n_waiting: int
    peak_gib: float
    report: Path


def demo_project(seed: int, backend: str) -> Project:
    """The demo's configuration: small enough for two cores and 15 minutes."""
    return parse_settings(
        Project,
        {
            "seed": seed,
            "loop": {"rounds": 2, "prompts_per_round": 128, "label": "machine"},
            "engine": {"backend": backend},
            # Answers cut at 64 tokens stay in pairs: they are the long ones that the rule rejects.
            # Without them seed 1 did not learn (docs/log.md).
            "generate": {
                "n": 4,
                "temperature": 0.7,
                "max_tokens": 64,
                "pairs_per_prompt": 3,
                "unfinished": "keep",
            },
            "judge": {"rater": "format", "noise": 0.1, "seed": derive_seed("noise", seed)},
            "train": {"epochs": 1, "learning_rate": 3e-4, "batch_size": 8, "max_length": 512},
            "evaluate": {"rule": "format", "max_tokens": 64, "pair_prompts": 64},
        },
        where="prefkit demo",
    )


def open_demo(folder: Path, *, seed: int, backend: str = "auto", fresh: bool = False) -> Workspace:
    """The demo's workspace: made, started over (``fresh``) or found as it stands.

    Only a folder that an earlier demo made is ever run or removed.
    """
    from prefkit_data import demo_prompts

    project = demo_project(seed, backend)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise WorkspaceError(
            f"{folder}: not made by prefkit demo, so it is neither run nor removed",
            hint="choose another folder, or remove it yourself",
        )
    stands = (folder / CONFIG_NAME).is_file()
    # Marked but no workspace: killed while it was made or removed.
    if (folder / MARK).is_file() and (fresh or not stands):
        _remove(folder)
        stands = False
    if stands:
        made_with = read_json(folder / MARK)["seed"]
        if made_with != seed:
            raise WorkspaceError(
                f"{folder}: holds the demo of seed {made_with}, not of seed {seed}",
                hint=f"add --seed {made_with} to go on, --fresh to start over, or choose another "
                "folder",
            )
        return Workspace.open(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MARK, {"seed": seed, "peak_gib": 0.0})
    prompts = [*demo_prompts("train"), *demo_prompts("heldout")]
    return init_workspace(folder, project, prompts)


def _remove(folder: Path) -> None:
    """Remove a demo's folder; killed on the way, what is left is no workspace and still marked."""
    with Workspace(folder).locked():
        (folder / CONFIG_NAME).unlink(missing_ok=True)
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != MARK:
                path.unlink()
    shutil.rmtree(folder)


def run_demo(workspace: Workspace, *, progress: Progress = silent) -> Demo:
    """Run the demo to its end, or show what stands."""
    loop = run_loop(workspace, progress=progress)
    with workspace.locked(), PeakMemory() as memory:
        job = open_job(workspace, progress=progress)
        try:
            n_waiting = offer_comparisons(job)
        finally:
            job.store.close()
    mark: dict[str, Any] = read_json(workspace.path / MARK)
    peak = max(mark["peak_gib"], loop.peak_gib, memory.gib)
    write_json(workspace.path / MARK, {**mark, "peak_gib": round(peak, 3)})
    assert loop.report is not None, "a machine labels the demo, so it never waits"
    return Demo(workspace, loop, n_waiting, peak, loop.report)


def offer_comparisons(job: Job) -> int:
    """Put fresh pairs of the last adapter's answers into the store; how many wait for a vote."""
    folder, last = job.workspace.path / "next", job.project.loop.rounds
    settings = job.project.generate.model_copy(
        update={"n": 2, "pairs_per_prompt": 1, "seed": derive_seed("next", job.project.seed)}
    )
    prompts, _ = job.prompts.of_round(last + 1, OFFERED_PROMPTS, job.project.seed)

    def work() -> Mapping[str, Any]:
        result = generate(
            prompts,
            job.source,
            settings,
            adapter=job.adapter(last),
            journal=folder / "journal",
            progress=job.progress,
        )
        offered = [replace(c, origin="people") for c in result.comparisons]
        write_records(folder / "comparisons.parquet", offered, Comparison)
        return {"n_comparisons": len(offered)}

    run_stage(
        folder,
        "offer",
        inputs={"policy": policy_digest(job.source, job.adapter(last))},
        config={**settings.model_dump(mode="json"), "prompts": [p.id for p in prompts]},
        outputs=("comparisons.parquet",),
        work=work,
    )
    shutil.rmtree(folder / "journal", ignore_errors=True)
    offered = read_records(folder / "comparisons.parquet", Comparison)
    annotate = job.project.annotate
    job.store.add(offered, annotate.k, annotate.overlap.most)
    voted = {vote.comparison_id for vote in job.store.votes()}
    return sum(comparison.id not in voted for comparison in offered)


def demo_result(demo: Demo, seconds: float) -> dict[str, Any]:
    """The demo's JSON object (see the README)."""
    return {
        "rounds": demo.loop.rounds,
        "seconds": round(seconds, 1),
        "peak_gib": round(demo.peak_gib, 2),
        "report": str(demo.report),
        "workspace": str(demo.workspace.path),
        "n_waiting": demo.n_waiting,
    }
