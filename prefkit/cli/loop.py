"""``prefkit loop run``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from prefkit.cli.output import finish, progress_bars, rows_table

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    help="Run rounds of generate, vote, curate, train and evaluate.",
)


@app.callback()
def loop() -> None:
    """Rounds of generate, vote, curate, train and evaluate."""


@app.command()
def run(
    folder: Annotated[Path, typer.Argument(help="A workspace made by prefkit init.")] = Path("."),
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key, e.g. train.beta=0.2.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run the rounds of prefkit.yaml; stop where people must vote, go on when they have.

    Run it again after a kill or after voting: finished work is not redone. Waiting for people
    is not a failure: the exit code is 0.

    Example: prefkit loop run my-project --set loop.label=machine --set judge.rater=format
    """
    from prefkit.rounds.loop import run_loop
    from prefkit.workspace import Workspace

    workspace = Workspace.open(folder)
    with progress_bars() as progress:
        result = run_loop(workspace, overrides=overrides or (), progress=progress)
    value: dict[str, Any] = {
        "state": result.state,
        "rounds": result.rounds,
        "peak_gib": round(result.peak_gib, 2),
    }
    if result.report:
        value["report"] = str(result.report)
    if result.waiting:
        value["waiting"] = asdict(result.waiting)
        left = result.waiting.wanted - result.waiting.done
        finish(
            value,
            as_json=as_json,
            screen=[
                f"round {result.waiting.round} waits for people: {result.waiting.done} of "
                f"{result.waiting.wanted} comparisons have their votes, {left} to go"
            ],
            next_command=f"prefkit annotate {quote(str(folder))}, "
            f"then: prefkit loop run {quote(str(folder))}",
        )
        return
    finish(
        value,
        as_json=as_json,
        screen=[round_table(result.rounds), f"report: {value.get('report', '–')}"],
        next_command=f"prefkit status {quote(str(folder))}",
    )


def round_table(rounds: list[dict[str, Any]]) -> Any:
    """One line a finished round."""
    from prefkit.cli.demo import interval, percent

    header = [
        "round",
        "comparisons",
        "votes",
        "kept",
        "dropped",
        "loss",
        "accuracy",
        "win rate",
        "95 %",
    ]
    rows = [
        [
            r["round"],
            r["n_comparisons"],
            r["n_votes"],
            r["n_kept"],
            r["n_dropped"],
            f"{r['last_loss']:.3f}",
            percent(r["heldout_accuracy"]),
            percent(r["win_rate"]),
            interval(r["ci95"]),
        ]
        for r in rounds
    ]
    return rows_table("rounds", header, rows)
