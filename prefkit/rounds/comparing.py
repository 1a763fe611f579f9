"""What a round's adapter is worth: its answers to held-out prompts against the base model's.

Base answers are sampled once a workspace (``base/``) and read by every round.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prefkit.core.files import write_json
from prefkit.core.records import Completion, Example, Prompt
from prefkit.core.rng import derive_seed
from prefkit.evaluation import answer_lengths, greedy_answers, reward_accuracy, win_rate
from prefkit.formats.tables import read_records, write_records
from prefkit.generation import generate
from prefkit.judging import rule_verdict
from prefkit.judging.rules import RULES
from prefkit.policy.load import policy_digest
from prefkit.rounds.stages import Job
from prefkit.workspace import Manifest, run_stage

Verdict = Callable[[Prompt, str, str], float]


def evaluation_rule(job: Job) -> str | None:
    """The rule that compares answers: evaluate.rule, or the machine rater if it is a rule."""
    named = job.project.evaluate.rule
    if named:
        return named
    rater = job.project.judge.rater
    return rater if job.project.loop.label == "machine" and rater in RULES else None


def answer_base(job: Job) -> Manifest:
    """The base model's answers to the held-out prompts, and clean held-out pairs by the rule."""
    folder, settings = job.workspace.path / "base", job.project.evaluate
    rule = evaluation_rule(job)
    heldout = list(job.prompts.heldout)

    def work() -> Mapping[str, Any]:
        write_records(folder / "prompts.parquet", heldout, Prompt)
        answers = greedy_answers(
            heldout,
            job.source,
            None,
            settings,
            journal=folder / "journal",
            progress=job.progress,
        )
        write_records(folder / "answers.parquet", answers, Completion)
        pairs = _clean_pairs(job, rule, folder) if rule else []
        write_records(folder / "pairs.parquet", pairs, Example)
        return {"n_prompts": len(heldout), "n_pairs": len(pairs), "rule": rule}

    manifest, _ = run_stage(
        folder,
        "base",
        inputs={"prompts": job.prompts.digest, "policy": policy_digest(job.source, None)},
        config={
            **settings.model_dump(mode="json"),
            "rule": rule,
            "seed": job.project.seed,
            "generate": job.project.generate.model_dump(mode="json"),
        },
        outputs=("prompts.parquet", "answers.parquet", "pairs.parquet"),
        work=work,
    )
    for name in ("journal", "pairs_journal"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return manifest


def _clean_pairs(job: Job, rule: str, folder: Path) -> list[Example]:
    """Pairs of base samples to held-out prompts, labelled by the rule without noise."""
    wanted = job.project.evaluate.pair_prompts
    settings = job.project.generate.model_copy(
        update={"n": 2, "pairs_per_prompt": 1, "seed": derive_seed("pairs", job.project.seed)}
    )
    sampled = generate(
        list(job.prompts.heldout)[:wanted],
        job.source,
        settings,
        journal=folder / "pairs_journal",
        progress=job.progress,
    )
    examples: list[Example] = []
    for comparison in sampled.comparisons:
        p_a = rule_verdict(rule, comparison.prompt, comparison.a.text, comparison.b.text)
        if p_a is None or p_a == 0.5:
            continue
        example, _ = Example.make(
            comparison.prompt, comparison.a.messages, comparison.b.messages, p=p_a
        )
        examples.append(example)
    return examples


def evaluate_round(job: Job, number: int, base: Manifest, trained: Manifest) -> Manifest:
    """Answer the held-out prompts with the round's adapter and compare with the base model."""
    folder, settings = job.folder(number), job.project.evaluate
    adapter, rule = job.adapter(number), evaluation_rule(job)

    def work() -> Mapping[str, Any]:
        base_folder = job.workspace.path / "base"
        prompts = read_records(base_folder / "prompts.parquet", Prompt)
        before = read_records(base_folder / "answers.parquet", Completion)
        after = greedy_answers(
            prompts,
            job.source,
            adapter,
            settings,
            journal=folder / "evaluation_journal",
            progress=job.progress,
        )
        write_records(folder / "answers.parquet", after, Completion)
        facts = _measure(job, number, prompts, before, after, rule)
        write_json(folder / "evaluation.json", facts)
        return facts

    manifest, _ = run_stage(
        folder,
        "evaluate",
        inputs={
            "base": base.outputs["answers.parquet"],
            "pairs": base.outputs["pairs.parquet"],
            "adapter": trained.outputs["train/adapter"],
            "heldout": trained.outputs["heldout_examples.parquet"],
        },
        config={**settings.model_dump(mode="json"), "rule": rule, "beta": job.project.train.beta},
        outputs=("answers.parquet", "evaluation.json"),
        work=work,
    )
    shutil.rmtree(folder / "evaluation_journal", ignore_errors=True)
    return manifest


def _measure(
    job: Job,
    number: int,
    prompts: list[Prompt],
    before: list[Completion],
    after: list[Completion],
    rule: str | None,
) -> dict[str, Any]:
    folder = job.folder(number)
    pairs = read_records(job.workspace.path / "base" / "pairs.parquet", Example)
    if not pairs:
        pairs = read_records(folder / "heldout_examples.parquet", Example)
    # An even label ranks nothing.
    pairs = [pair for pair in pairs if pair.p > 0.5]
    facts: dict[str, Any] = {
        "n_prompts": len(prompts),
        "rule": rule,
        "win_rate": None,
        "ci95": None,
        "n_ties": None,
        "heldout_accuracy": None,
        "n_heldout_pairs": len(pairs),
        "mean_words_before": answer_lengths(before).mean_words,
        "mean_words_after": answer_lengths(after).mean_words,
    }
    if rule:

        def verdict(prompt: Prompt, new: str, base: str) -> float | None:
            return rule_verdict(rule, prompt, new, base)

        result = win_rate(prompts, after, before, verdict)
        facts |= {
            "win_rate": result.win_rate,
            "ci95": list(result.ci95),
            "n_ties": result.n_ties,
            "n_prompts": result.n_prompts,
        }
    if pairs:
        from prefkit.training.objective import make_objective

        accuracy = reward_accuracy(
            job.source,
            job.adapter(number),
            pairs,
            beta=make_objective(job.project.train).beta,
            progress=job.progress,
        )
        facts["heldout_accuracy"] = accuracy.accuracy
    return facts
