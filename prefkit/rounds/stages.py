"""The stages of one round, each a pure function over files that ``run_stage`` makes resumable.

    prompts.parquet → candidates.parquet, comparisons.parquet → votes.parquet (frozen)
    → preferences.parquet → examples.parquet, dropped.parquet, ledger.parquet
    → train/adapter → answers.parquet, evaluation.json

Knows the order of nothing: loop.py does.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefkit.aggregation import aggregate, build_examples
from prefkit.core.errors import DataError
from prefkit.core.files import file_digest, read_json, write_json
from prefkit.core.progress import Progress
from prefkit.core.records import Comparison, Completion, Example, Preference, Prompt, Vote
from prefkit.core.rng import derive_rng, derive_seed
from prefkit.curation import curate
from prefkit.formats.schema import to_table
from prefkit.formats.tables import read_records, write_records
from prefkit.generation import generate
from prefkit.judging import judge
from prefkit.policy.load import policy_digest
from prefkit.policy.resolve import ModelSource
from prefkit.rounds.project import Project
from prefkit.rounds.prompts import RoundPrompts
from prefkit.rounds.quorum import quorum
from prefkit.store import VoteStore
from prefkit.training.settings import TrainSettings
from prefkit.workspace import Manifest, Workspace, read_manifest, run_stage, stage_key


@dataclass(frozen=True, slots=True)
class Job:
    """What every stage needs: the project as read, its model and its open vote store."""

    workspace: Workspace
    project: Project
    source: ModelSource
    store: VoteStore
    prompts: RoundPrompts
    progress: Progress

    def folder(self, number: int) -> Path:
        return self.workspace.round_path(number)

    def model_facts(self) -> dict[str, Any]:
        """Which base model this is, for the manifests; a Hub model's revision is pinned here."""
        source = self.source
        return {
            "spec": source.spec,
            "kind": source.kind,
            "revision": source.revision,
            "digest": source.digest,
        }

    def adapter(self, number: int) -> Path | None:
        """The adapter that round ``number`` trained; None for round 0, the base model."""
        return self.folder(number) / "train" / "adapter" if number else None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A round that cannot go on before people have voted."""

    round: int
    done: int
    wanted: int


def plan_prompts(job: Job, number: int) -> Manifest:
    """Choose the round's training prompts: the next slice of a seeded shuffle."""
    folder, wanted = job.folder(number), job.project.loop.prompts_per_round

    def work() -> Mapping[str, Any]:
        chosen, reused = job.prompts.of_round(number, wanted, job.project.seed)
        write_records(folder / "prompts.parquet", chosen, Prompt)
        return {"n_prompts": len(chosen), "n_reused": reused}

    manifest, _ = run_stage(
        folder,
        "prompts",
        inputs={"prompts": job.prompts.digest},
        config={"number": number, "prompts_per_round": wanted, "seed": job.project.seed},
        outputs=("prompts.parquet",),
        work=work,
    )
    return manifest


def generate_round(job: Job, number: int, planned: Manifest) -> Manifest:
    """Sample the previous round's policy and pair its answers."""
    folder, adapter = job.folder(number), job.adapter(number - 1)
    settings = job.project.generate.model_copy(
        update={"seed": derive_seed("generate", job.project.seed, number)}
    )

    def work() -> Mapping[str, Any]:
        result = generate(
            read_records(folder / "prompts.parquet", Prompt),
            job.source,
            settings,
            adapter=adapter,
            journal=folder / "journal",
            progress=job.progress,
        )
        origin = f"round:{number}"
        comparisons = [replace(c, origin=origin) for c in result.comparisons]
        write_records(folder / "candidates.parquet", result.completions, Completion)
        write_records(folder / "comparisons.parquet", comparisons, Comparison)
        return {
            "n_candidates": len(result.completions),
            "n_comparisons": len(comparisons),
            "backend": result.backend,
            "engine_peak_gib": result.peak_gib,
            "model": job.model_facts(),
            **{f"n_{name}": n for name, n in result.counts.items()},
        }

    manifest, _ = run_stage(
        folder,
        "generate",
        inputs={
            "prompts": planned.outputs["prompts.parquet"],
            "policy": policy_digest(job.source, adapter),
        },
        config=settings.model_dump(mode="json"),
        outputs=("candidates.parquet", "comparisons.parquet"),
        work=work,
    )
    shutil.rmtree(folder / "journal", ignore_errors=True)
    return manifest


def vote_round(job: Job, number: int, generated: Manifest) -> Manifest | Waiting:
    """Get the round's votes and freeze them; Waiting where people have still to vote.

    Votes that come after the freeze stay in the store and change nothing here; other comparisons
    or another rater are asked for anew.
    """
    folder, loop = job.folder(number), job.project.loop
    comparisons = read_records(folder / "comparisons.parquet", Comparison)
    if not comparisons:
        raise DataError(
            f"round {number}: no comparison could be made of {_left_out(generated)}",
            hint="in prefkit.yaml, raise generate.max_tokens where answers were unfinished, "
            "generate.temperature or generate.n where they were identical",
        )
    judged = job.project.judge.model_dump(mode="json") if loop.label == "machine" else {}
    config = {"label": loop.label, "k": job.project.annotate.k, "judge": judged}
    inputs = {"comparisons": generated.outputs["comparisons.parquet"]}

    def work() -> Mapping[str, Any]:
        votes = _votes_of(job.store, comparisons, cast)
        write_records(folder / "votes.parquet", votes, Vote)
        choices = Counter(vote.choice for vote in votes)
        return {"n_votes": len(votes), "choices": dict(choices), "failed": failed}

    failed: dict[str, int] = {}
    cast: Sequence[Vote] = ()
    standing = read_manifest(folder, "vote")
    if standing is None or standing.key != stage_key("vote", inputs, config):
        annotate = job.project.annotate
        job.store.add(comparisons, annotate.k, annotate.overlap.most)
        if loop.label == "machine":
            result = judge(
                comparisons,
                job.project.judge,
                journal=folder / "judge_journal",
                progress=job.progress,
            )
            job.store.add_votes(result.votes)
            failed, cast = dict(result.failed), result.votes
            if not _votes_of(job.store, comparisons, cast):
                raise _no_vote(number, job.project.judge.rater, failed)
        else:
            votes = _votes_of(job.store, comparisons, cast)
            reached = quorum(comparisons, votes, k=job.project.annotate.k, share=loop.quorum)
            if not reached.met:
                return Waiting(number, reached.done, reached.wanted)
    manifest, _ = run_stage(
        folder,
        "vote",
        inputs=inputs,
        config=config,
        outputs=("votes.parquet",),
        work=work,
    )
    return manifest


def _left_out(generated: Manifest) -> str:
    facts = generated.facts
    parts = [f"{facts[f'n_{name}']} {name}" for name in ("unfinished", "empty", "identical")]
    return f"{facts['n_candidates']} answers ({', '.join(parts)})"


def _votes_of(
    store: VoteStore, comparisons: Sequence[Comparison], cast: Sequence[Vote]
) -> list[Vote]:
    """The store's votes on ``comparisons``, without what the rater of ``cast`` said before.

    A machine asked again with other settings votes again; only its last word counts.
    """
    ids = {comparison.id for comparison in comparisons}
    asked, said = {vote.rater for vote in cast}, {vote.id for vote in cast}
    return [
        vote
        for vote in store.votes()
        if vote.comparison_id in ids and (vote.rater not in asked or vote.id in said)
    ]


def _no_vote(number: int, rater: str, failed: Mapping[str, int]) -> DataError:
    reasons = ", ".join(f"{reason} ({n})" for reason, n in failed.items())
    return DataError(
        f"round {number}: the rater {rater!r} voted on no comparison: {reasons}",
        hint="the rule format reads tags.format of each prompt; choose another judge.rater, "
        "or loop.label=people",
    )


def aggregate_round(job: Job, number: int, voted: Manifest) -> Manifest:
    """Turn the frozen votes into preferences."""
    folder = job.folder(number)

    def work() -> Mapping[str, Any]:
        comparisons = read_records(folder / "comparisons.parquet", Comparison)
        votes = read_records(folder / "votes.parquet", Vote)
        preferences = aggregate(comparisons, votes, method=job.project.aggregate.method)
        write_records(folder / "preferences.parquet", preferences, Preference)
        without = len(comparisons) - len(preferences)
        return {"n_preferences": len(preferences), "n_without_preference": without}

    manifest, _ = run_stage(
        folder,
        "aggregate",
        inputs={"votes": voted.outputs["votes.parquet"], **voted.inputs},
        config=job.project.aggregate.model_dump(mode="json"),
        outputs=("preferences.parquet",),
        work=work,
    )
    return manifest


def curate_round(job: Job, number: int, aggregated: Manifest) -> Manifest:
    """Make examples of the preferences and filter them."""
    folder, section = job.folder(number), job.project.curate
    recipe = section.recipe_in(job.workspace.path)
    recipe_file = job.workspace.path / section.recipe

    def work() -> Mapping[str, Any]:
        comparisons = read_records(folder / "comparisons.parquet", Comparison)
        preferences = read_records(folder / "preferences.parquet", Preference)
        examples, counts = build_examples(comparisons, preferences)
        result = curate(to_table(examples, Example), recipe, overrides=section.overrides)
        result.write(folder)
        return {
            "n_examples": len(examples),
            "n_flipped": counts.get("flipped", 0),
            "n_kept": result.kept.num_rows,
            "n_dropped": result.dropped.num_rows,
            "dropped": result.dropped_by_reason(),
        }

    manifest, _ = run_stage(
        folder,
        "curate",
        inputs={
            "preferences": aggregated.outputs["preferences.parquet"],
            "comparisons": aggregated.inputs["comparisons"],
        },
        config={
            "recipe": file_digest(recipe_file) if recipe_file.is_file() else recipe,
            "overrides": list(section.overrides),
        },
        outputs=("examples.parquet", "dropped.parquet", "ledger.parquet"),
        work=work,
    )
    return manifest


def settings_of(project: Project, number: int) -> TrainSettings:
    """How round ``number`` trains: with a seed of its own. A reference ``start`` is the base model
    where the round starts from that, as the first always does."""
    changes: dict[str, Any] = {"seed": derive_seed("train", project.seed, number)}
    from_base = number == 1 or project.loop.start != "previous"
    if project.train.reference == "start" and from_base:
        changes["reference"] = "base"
    return project.train.model_copy(update=changes)


def train_round(job: Job, number: int, curated: Sequence[Manifest]) -> Manifest:
    """Train the round's adapter on its examples, or on those of all rounds so far.

    curated: the curate manifests of rounds 1 … number.
    """
    from prefkit.training import train

    folder, loop = job.folder(number), job.project.loop
    used = range(1, number + 1) if loop.data == "accumulate" else [number]
    start = job.adapter(number - 1) if loop.start == "previous" else None
    settings = settings_of(job.project, number)
    inputs = {f"examples:{n}": curated[n - 1].outputs["examples.parquet"] for n in used}
    inputs["policy"] = policy_digest(job.source, start)
    config = {
        **settings.model_dump(mode="json"),
        "heldout_share": loop.heldout_share if loop.label == "people" else 0.0,
    }

    def work() -> Mapping[str, Any]:
        training, heldout = split_examples(job, used)
        if not training:
            raise DataError(
                f"round {number}: curation kept no example to train on",
                hint=f"see {folder / 'ledger.parquet'}; loosen curate.recipe or curate.overrides",
            )
        write_records(folder / "heldout_examples.parquet", heldout, Example)
        result = train(
            job.source,
            training,
            settings,
            out=folder / "train",
            start_adapter=start,
            progress=job.progress,
        )
        return {
            "n_examples": len(training),
            "n_heldout": len(heldout),
            "model": job.model_facts(),
            "steps": result.steps,
            "first_loss": result.first_loss,
            "last_loss": result.last_loss,
        }

    key = {"inputs": inputs, "config": config}
    _clear_other_run(folder / "train", key)
    manifest, _ = run_stage(
        folder,
        "train",
        inputs=inputs,
        config=config,
        outputs=("train/adapter", "heldout_examples.parquet"),
        work=work,
    )
    return manifest


def split_examples(job: Job, rounds: Sequence[int] | range) -> tuple[list[Example], list[Example]]:
    """The training and the held-out examples of ``rounds``, split by prompt, equal rows once."""
    unique: dict[str, Example] = {}
    for number in rounds:
        for example in read_records(job.folder(number) / "examples.parquet", Example):
            unique.setdefault(example.id, example)
    share = job.project.loop.heldout_share if job.project.loop.label == "people" else 0.0
    training: list[Example] = []
    heldout: list[Example] = []
    for example in unique.values():
        held = derive_rng("heldout", job.project.seed, example.prompt.id).random() < share
        (heldout if held else training).append(example)
    return training, heldout


def _clear_other_run(out: Path, key: Mapping[str, Any]) -> None:
    """Remove the checkpoints of a run with other inputs: they must not be resumed."""
    note = out / "run.json"
    if out.is_dir() and not (note.is_file() and read_json(note) == key):
        shutil.rmtree(out)
    if not note.is_file():
        write_json(note, key)
