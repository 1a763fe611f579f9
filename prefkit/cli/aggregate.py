"""``prefkit aggregate``: votes become P(a wins) for each comparison."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from prefkit.cli.output import facts_table, finish
from prefkit.cli.source import Ballots, is_workspace, workspace_ballots

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def aggregate(
    source: Annotated[
        Path, typer.Argument(help="A workspace, or a file of comparisons (with --votes).")
    ] = Path(),
    votes: Annotated[
        Path | None, typer.Option(help="A file of votes: Parquet, JSON lines or CSV.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="How votes are counted. Default: prefkit.yaml's, else auto."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for preferences.parquet and examples.parquet."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Turn votes into P(a wins) for each comparison, and those into training pairs.

    Replaced, withdrawn and skipped votes take no part, nor do "both bad" and "invalid"; each is
    counted. Writes preferences.parquet and examples.parquet, for a workspace into its folder
    aggregated/, for files beside the comparisons.

    Example: prefkit aggregate my-project

    Example: prefkit aggregate comparisons.parquet --votes votes.parquet --out beliefs
    """
    from prefkit import aggregation
    from prefkit.core.records import Example, Preference
    from prefkit.formats.tables import write_records

    ballots = _ballots(source, votes)
    counted = aggregation.counted_votes(ballots.comparisons, ballots.votes)
    made_of = aggregation.aggregate_scored(
        ballots.comparisons, counted, method=method or ballots.method
    )
    preferences = made_of.preferences
    examples, made = aggregation.build_examples(ballots.comparisons, preferences)
    folder = out or (source / "aggregated" if source.is_dir() else source.parent)
    write_records(folder / "preferences.parquet", preferences, Preference)
    write_records(folder / "examples.parquet", examples, Example)
    value: dict[str, Any] = {
        **counted.counts,
        "n_preferences": len(preferences),
        "n_flipped": made["flipped"],
        "n_ties": made["ties"],
        "method": made_of.method,
        "preferences": str(folder / "preferences.parquet"),
        "examples": str(folder / "examples.parquet"),
    }
    following = (
        f"prefkit curate {quote(str(folder / 'examples.parquet'))} "
        f"--out {quote(str(folder / 'curated'))}"
    )
    if not examples:  # curate would refuse an empty file
        following = f"prefkit annotate {quote(str(source))}"
    finish(
        value,
        as_json=as_json,
        screen=[facts_table(f"Votes of {ballots.place}", _facts(value))],
        next_command=following,
    )


def _ballots(source: Path, votes: Path | None) -> Ballots:
    from prefkit.core.errors import ConfigError
    from prefkit.formats.load import load_comparisons
    from prefkit.formats.votes import load_votes

    if votes is not None:
        return Ballots(load_comparisons(source), load_votes(votes), str(votes))
    if source.is_file() and not is_workspace(str(source)):
        raise ConfigError(
            f"{source}: a file of comparisons needs its votes",
            hint=f"prefkit aggregate {source} --votes votes.parquet",
        )
    return workspace_ballots(str(source))


def _facts(value: dict[str, Any]) -> list[tuple[str, object]]:
    shown = {
        "n_votes": "votes",
        "n_counted": "  counted",
        "n_repeated": "  sent twice",
        "n_replaced": "  replaced by a later one",
        "n_withdrawn": "  withdrawals",
        "n_skip": "  skips",
        "n_invalid": "  invalid",
        "n_both_bad": "  both bad",
        "n_unknown_comparison": "  on comparisons not given",
        "n_comparisons": "comparisons",
        "n_preferences": "  with a preference",
        "n_without_preference": "  without",
        "n_flipped": "pairs with b chosen",
        "n_ties": "pairs at exactly 0.5",
    }
    always = ("n_votes", "n_counted", "n_comparisons", "n_preferences")
    facts = [(text, value[name]) for name, text in shown.items() if value[name] or name in always]
    return [*facts, ("written to", value["preferences"]), ("", value["examples"])]
