"""The report of a workspace: what went in, what was learned, and how to load it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefkit.core.records import Completion, Prompt
from prefkit.formats.tables import read_records
from prefkit.judging import rule_verdict, score
from prefkit.report import Bar, Report, Sample
from prefkit.rounds.project import Project
from prefkit.training.card import vllm_rank
from prefkit.workspace import Workspace

N_SAMPLES = 12


def write_report(
    workspace: Workspace, rounds: Sequence[dict[str, Any]], project: Project, *, model_path: Path
) -> Path:
    """Write report.html of the finished rounds (their summaries); the path it has.

    model_path: the folder from which the base model can be loaded again.
    """
    report = Report(workspace.path.name, subtitle=_subtitle(project, len(rounds)))
    last = rounds[-1]
    report.facts(
        {
            "candidates": sum(r["n_candidates"] for r in rounds),
            "votes": sum(r["n_votes"] for r in rounds),
            "kept": sum(r["n_kept"] for r in rounds),
            "dropped": sum(r["n_dropped"] for r in rounds),
            "held-out prompts": last["n_prompts"],
        }
    )
    _add_results(report, rounds)
    _add_curation(report, rounds)
    _add_training(report, workspace, rounds)
    _add_samples(report, workspace, last)
    _add_code(report, model_path, last, vllm_rank(project.train.lora.r))
    return report.write(workspace.path / "report.html")


def _subtitle(project: Project, n_rounds: int) -> str:
    voter = "people" if project.loop.label == "people" else f"the rater {project.judge.rater}"
    return f"{project.model}, {n_rounds} rounds, labelled by {voter}, seed {project.seed}"


def _add_results(report: Report, rounds: Sequence[dict[str, Any]]) -> None:
    compared = [r for r in rounds if r["win_rate"] is not None]
    report.heading("Is it better?")
    if compared:
        report.bar_plot(
            [Bar(f"round {r['round']}", r["win_rate"], *r["ci95"]) for r in compared],
            title="Win rate over the starting model",
            reference=0.5,
            note=f"One greedy answer to each of {compared[-1]['n_prompts']} held-out prompts, the "
            f"rule {compared[-1]['rule']} without noise, a tie counts ½, 95 % interval over "
            "prompts.",
        )
    report.table(
        ["round", "win rate", "ties", "held-out accuracy", "pairs", "words before", "words after"],
        [
            [
                r["round"],
                r["win_rate"],
                r["n_ties"],
                r["heldout_accuracy"],
                r["n_heldout_pairs"],
                r["mean_words_before"],
                r["mean_words_after"],
            ]
            for r in rounds
        ],
        note="A rule that rewards form also moves length: the last two columns show how far. A "
        "dash: there was no rule to compare answers, or no held-out pair.",
    )


def _add_curation(report: Report, rounds: Sequence[dict[str, Any]]) -> None:
    report.heading("What was trained on")
    for r in rounds:
        report.waterfall(
            r["n_kept"] + r["n_dropped"], r["dropped"], title=f"Curation, round {r['round']}"
        )
        choices = ", ".join(f"{name} {n}" for name, n in sorted(r["choices"].items()))
        report.facts(
            {
                "comparisons": r["n_comparisons"],
                "votes": r["n_votes"],
                "choices": choices,
                "without a preference": r["n_without_preference"],
                "trained on": r["n_examples"],
            }
        )


def _add_training(report: Report, workspace: Workspace, rounds: Sequence[dict[str, Any]]) -> None:
    report.heading("Training")
    metrics = {f"round {r['round']}": _metrics(workspace, r["round"]) for r in rounds}
    for key, title, reference in (
        ("loss", "Training loss", 0.6931),
        ("reward_accuracy", "Reward accuracy on training pairs", 0.5),
        ("reward_margin", "Reward margin", 0.0),
    ):
        series = {
            name: [(row["step"], row.get(key)) for row in rows] for name, rows in metrics.items()
        }
        report.line_plot(series, title=title, x_label="step", y_label=key, reference=reference)


def _metrics(workspace: Workspace, number: int) -> list[dict[str, Any]]:
    path = workspace.round_path(number) / "train" / "metrics.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _add_samples(report: Report, workspace: Workspace, last: dict[str, Any]) -> None:
    base = workspace.path / "base"
    prompts = read_records(base / "prompts.parquet", Prompt)
    before = {c.prompt_id: c.text for c in read_records(base / "answers.parquet", Completion)}
    path = workspace.round_path(last["round"]) / "answers.parquet"
    after = {c.prompt_id: c.text for c in read_records(path, Completion)}
    # An engine leaves a prompt that is too long for the model without an answer.
    prompts = [prompt for prompt in prompts if prompt.id in before and prompt.id in after]
    # Every n-th of all prompts: a spread, not a choice of the best.
    shown = prompts[:: max(1, len(prompts) // N_SAMPLES)][:N_SAMPLES]
    report.heading("Before and after")
    report.samples(
        [_sample(prompt, before[prompt.id], after[prompt.id], last["rule"]) for prompt in shown],
        title=f"Every {max(1, len(prompts) // N_SAMPLES)}th held-out prompt",
        before="base model",
        after=f"round {last['round']}",
        note="Taken at even distances from the list, not chosen.",
    )


def _sample(prompt: Prompt, before: str, after: str, rule: str | None) -> Sample:
    if rule is None:
        return Sample(prompt.text, before, after)
    verdict = rule_verdict(rule, prompt, after, before)
    scores = [score(prompt, text, rule=rule) for text in (before, after)]
    note = "" if None in scores else f"rule score {scores[0]:.2f} → {scores[1]:.2f}"
    named: Any = {1.0: "after", 0.0: "before", 0.5: "tie"}.get(-1.0 if verdict is None else verdict)
    return Sample(prompt.text, before, after, named, note)


def _add_code(report: Report, model_path: Path, last: dict[str, Any], max_rank: int) -> None:
    values = {"model": str(model_path), "adapter": last["adapter"], "max_rank": max_rank}
    report.heading("Load the adapter")
    report.code("transformers + peft", TRANSFORMERS_CODE.format(**values))
    report.code("vLLM", VLLM_CODE.format(**values))


TRANSFORMERS_CODE = """
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = {model!r}
tokenizer = AutoTokenizer.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
model = PeftModel.from_pretrained(model, {adapter!r})

messages = [{{"role": "user", "content": "Why is the sky blue? Use at most 20 words."}}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
answer = model.generate(**inputs, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
"""

VLLM_CODE = """
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

if __name__ == "__main__":
    llm = LLM({model!r}, enable_lora=True, max_lora_rank={max_rank})
    answers = llm.chat(
        [{{"role": "user", "content": "Why is the sky blue? Use at most 20 words."}}],
        SamplingParams(temperature=0.0, max_tokens=64),
        lora_request=LoRARequest("prefkit", 1, {adapter!r}),
    )
    print(answers[0].outputs[0].text)
"""
