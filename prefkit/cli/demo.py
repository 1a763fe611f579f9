"""``prefkit demo``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from prefkit.cli.output import facts_table, finish, progress_bars, rows_table, say

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def demo(
    folder: Annotated[
        Path | None, typer.Argument(help="Workspace to make; default prefkit-demo/seed-N.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Remove an earlier demo here first.")
    ] = False,
    backend: Annotated[
        str, typer.Option(help="Text engine: auto, transformers, vllm or scripted.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run the whole job on a 135M model: generate, vote by a rule, curate, train, compare.

    Two rounds, unattended, 9 to 15 minutes on two cores, no network and no GPU. A second run
    goes on where the first stood, or shows what stands.

    Example: prefkit demo --seed 1
    """
    from prefkit.rounds.demo import demo_result, open_demo, run_demo

    started = time.monotonic()
    where = folder or Path("prefkit-demo") / f"seed-{seed}"
    workspace = open_demo(where, seed=seed, backend=backend, fresh=fresh)
    say(f"demo in {workspace.path}")
    with progress_bars() as progress:
        done = run_demo(workspace, progress=progress)
    result = demo_result(done, time.monotonic() - started)
    finish(
        result,
        as_json=as_json,
        screen=screen(result),
        next_command=f"prefkit annotate {where}   "
        f"({done.n_waiting} comparisons of the last adapter wait for you)",
    )


def screen(result: dict[str, Any]) -> list[Any]:
    """The last screen: counts that add up, what was learned, where the report is."""
    rounds: list[dict[str, Any]] = result["rounds"]
    header = ["", *(f"round {r['round']}" for r in rounds)]
    names = [
        ("training prompts", "n_train_prompts"),
        ("candidates", "n_candidates"),
        ("comparisons", "n_comparisons"),
        ("votes", "n_votes"),
        ("kept", "n_kept"),
        ("dropped", "n_dropped"),
    ]
    rows: list[list[object]] = [[title, *(r[key] for r in rounds)] for title, key in names]
    reasons = sorted({reason for r in rounds for reason in r["dropped"]})
    rows += [[f"  {reason}", *(r["dropped"].get(reason, 0) for r in rounds)] for reason in reasons]
    rows += [
        ["trained on", *(r["n_examples"] for r in rounds)],
        ["loss, first → last", *(f"{r['first_loss']:.3f} → {r['last_loss']:.3f}" for r in rounds)],
        ["held-out reward accuracy", *(percent(r["heldout_accuracy"]) for r in rounds)],
        ["win rate over the base model", *(percent(r["win_rate"]) for r in rounds)],
        ["  95 % interval", *(interval(r["ci95"]) for r in rounds)],
        ["  held-out prompts", *(r["n_prompts"] for r in rounds)],
        ["words an answer, base → round", *(words(r) for r in rounds)],
    ]
    facts = [
        ("report", result["report"]),
        ("engine", ", ".join(sorted({r["backend"] for r in rounds}))),
        ("time and memory", f"{result['seconds']:.0f} s, peak {result['peak_gib']:.1f} GiB"),
    ]
    return [rows_table("prefkit demo", header, rows), facts_table("", facts)]


def percent(rate: float | None) -> str:
    """0.613 → 61.3 %; None → –."""
    return "–" if rate is None else f"{100 * rate:.1f} %"


def interval(bounds: list[float] | None) -> str:
    """Two rates → 55.0–67.2 %."""
    return "–" if bounds is None else f"{100 * bounds[0]:.1f}–{100 * bounds[1]:.1f} %"


def words(summary: dict[str, Any]) -> str:
    """Mean answer lengths before and after."""
    return f"{summary['mean_words_before']:.1f} → {summary['mean_words_after']:.1f}"
