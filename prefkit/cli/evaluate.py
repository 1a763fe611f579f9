"""``prefkit evaluate``: does a policy answer better than another, and how sure is that?"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefkit.cli.output import finish, progress_bars, rows_table

if TYPE_CHECKING:
    from prefkit.core.records import Prompt
    from prefkit.evaluation import Evaluation

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def evaluate(
    prompts: Annotated[Path, typer.Argument(help="A file of prompts (JSON lines, CSV, Parquet).")],
    model: Annotated[
        str, typer.Option(help="A Hub id, a folder, a GGUF file, or smollm2.")
    ] = "smollm2",
    adapter: Annotated[
        Path | None, typer.Option(help="The adapter to judge: the folder that train wrote.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Compare with this adapter instead of the model without one."),
    ] = None,
    rule: Annotated[
        str, typer.Option(help="The rule that says which answer is better.")
    ] = "format",
    max_tokens: Annotated[int, typer.Option(help="The most new tokens of an answer.")] = 256,
    backend: Annotated[
        str, typer.Option(help="auto, vllm, transformers, server or scripted.")
    ] = "auto",
    out: Annotated[
        Path, typer.Option(help="A folder for samples.jsonl and the kept answers.")
    ] = Path("evaluation"),
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another setting, for example engine.batch_size=16."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare two policies on prompts: one greedy answer each, ties count half.

    The rule says which answer is better; the interval is over prompts. Where some prompts are
    tagged "split": "heldout", only those are asked: a win rate on training prompts says little.
    Answers are kept in OUT, so a second run asks for none again.

    Example: prefkit evaluate prompts.jsonl --adapter run/adapter --rule format
    """
    from prefkit.core.errors import ConfigError
    from prefkit.evaluation import EvaluateSettings
    from prefkit.evaluation import evaluate as run
    from prefkit.formats.prompts import load_prompts
    from prefkit.judging.rules import RULES, rule_verdict
    from prefkit.settings import parse_settings

    if adapter == against:
        raise ConfigError(
            "both sides are the same policy", hint="give --adapter DIR, the folder that train wrote"
        )
    RULES.get(rule)  # an unknown rule is said before a model is loaded
    given = {"rule": rule, "max_tokens": max_tokens, "engine": {"backend": backend}}
    settings = parse_settings(EvaluateSettings, given, overrides or ())
    asked, n_left_out = heldout_only(load_prompts(prompts))

    def verdict(prompt: Prompt, new: str, base: str) -> float | None:
        return rule_verdict(rule, prompt, new, base)

    with progress_bars() as progress:
        result = run(
            model,
            adapter,
            asked,
            verdict,
            settings,
            against=against,
            journal=out / "journal",
            progress=progress,
        )
    path = write_samples(out / "samples.jsonl", result, rule_scores(rule, asked))
    value = _value(result) | {
        "rule": rule,
        "adapter": None if adapter is None else str(adapter),
        "against": None if against is None else str(against),
        "n_left_out": n_left_out,
        "samples": str(path),
    }
    finish(value, as_json=as_json, screen=_screen(value), next_command=f"less {quote(str(path))}")


def heldout_only(prompts: Sequence[Prompt]) -> tuple[list[Prompt], int]:
    """The prompts tagged split: heldout, all if none is; and how many were left out."""
    held = [prompt for prompt in prompts if prompt.tags.get("split") == "heldout"]
    return (held, len(prompts) - len(held)) if held else (list(prompts), 0)


def rule_scores(rule: str, prompts: Sequence[Prompt]) -> Callable[[str, str], float | None]:
    """score(prompt id, answer) under ``rule``."""
    from prefkit.judging.rules import score

    known = {prompt.id: prompt for prompt in prompts}
    return lambda prompt_id, answer: score(known[prompt_id], answer, rule=rule)


def write_samples(
    path: Path, result: Evaluation, scored: Callable[[str, str], float | None]
) -> Path:
    """Every prompt with both answers, their scores and the outcome, one JSON object a line."""
    from prefkit.core.files import write_text

    lines = [
        json.dumps(
            {
                "prompt": sample.prompt,
                "base": sample.base,
                "new": sample.new,
                "base_score": scored(sample.prompt_id, sample.base),
                "new_score": scored(sample.prompt_id, sample.new),
                "outcome": sample.outcome,
            },
            ensure_ascii=False,
        )
        for sample in result.samples
    ]
    write_text(path, "\n".join(lines) + "\n")
    return path


def _value(result: Evaluation) -> dict[str, Any]:
    found = result.result
    return {
        "win_rate": found.win_rate,
        "ci95": list(found.ci95),
        "n_prompts": found.n_prompts,
        "n_wins": found.n_wins,
        "n_ties": found.n_ties,
        "n_losses": found.n_losses,
        "n_skipped": found.n_skipped,
        "n_unanswered": found.n_unanswered,
        "mean_words_base": result.base_lengths.mean_words,
        "mean_words_new": result.new_lengths.mean_words,
        "unfinished_base": result.base_lengths.share_unfinished,
        "unfinished_new": result.new_lengths.share_unfinished,
    }


def _screen(value: dict[str, Any]) -> list[Any]:
    low, high = value["ci95"]
    rows: list[tuple[object, object, object]] = [
        ("mean words", f"{value['mean_words_base']:.1f}", f"{value['mean_words_new']:.1f}"),
        ("stopped at the limit", _share(value["unfinished_base"]), _share(value["unfinished_new"])),
    ]
    counted = f"{value['n_wins']} wins, {value['n_ties']} ties, {value['n_losses']} losses"
    left = (
        f"; {value['n_left_out']} prompts not held out were left out" if value["n_left_out"] else ""
    )
    n_without = value["n_skipped"] + value["n_unanswered"]
    skipped = f"; {n_without} without an answer or a verdict" if n_without else ""
    return [
        f"win rate {value['win_rate']:.1%} [{low:.1%}, {high:.1%}] over {value['n_prompts']} "
        f"prompts by the rule {value['rule']}: {counted}{skipped}{left}",
        rows_table("", ["", value["against"] or "base", value["adapter"] or "base"], rows),
        f"samples: {value['samples']}",
    ]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
