"""``prefkit aggregate``: votes become P(a wins) for each comparison."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefkit.cli.output import facts_table, finish, rows_table
from prefkit.cli.source import Ballots, is_workspace, workspace_ballots

if TYPE_CHECKING:
    from prefkit.aggregation import Aggregated, CountedVotes
    from prefkit.aggregation.crossval import Evaluation

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
    """Turn votes into P(a rater prefers a) for each comparison, and those into training pairs.

    Where enough comparisons have two votes or more, every method is scored on votes that it has
    not seen, and auto takes the best; where they do not, the result says "uncalibrated" and auto
    is the vote share. Replaced, withdrawn and skipped votes take no part, nor do "both bad" and
    "invalid"; each is counted.

    Writes preferences.parquet, examples.parquet and aggregation.html, for a workspace into its
    folder aggregated/, for files beside the comparisons.

    Example: prefkit aggregate my-project

    Example: prefkit aggregate comparisons.parquet --votes votes.parquet --out beliefs
    """
    from prefkit import aggregation
    from prefkit.cli.aggregate_report import score_rows

    ballots = _ballots(source, votes)
    counted = aggregation.counted_votes(ballots.comparisons, ballots.votes)
    believed = aggregation.aggregate_scored(
        ballots.comparisons, counted, method=method or ballots.method
    )
    folder = out or (source / "aggregated" if source.is_dir() else source.parent)
    value = _write(folder, ballots, counted, believed)
    following = f"prefkit curate {quote(value['examples'])} --out {quote(str(folder / 'curated'))}"
    if not believed.preferences:  # curate would refuse an empty file
        following = f"prefkit annotate {quote(str(source))}"
    screen = [facts_table(f"Votes of {ballots.place}", _facts(value))]
    if believed.evaluation is not None:
        title = f"Log-loss of {believed.evaluation.n_votes} held-out votes"
        header = ("method", "nats a vote", "less vote_share's")
        rows = [row[:3] for row in score_rows(believed.evaluation)]
        screen.append(rows_table(title, header, rows))
    finish(value, as_json=as_json, screen=screen, next_command=following)


def _write(
    folder: Path, ballots: Ballots, counted: CountedVotes, believed: Aggregated
) -> dict[str, Any]:
    """Write the three files into ``folder``; what ``--json`` prints."""
    from prefkit.aggregation import build_examples
    from prefkit.cli.aggregate_report import write_report
    from prefkit.core.records import Example, Preference
    from prefkit.formats.tables import write_records

    examples, made = build_examples(ballots.comparisons, believed.preferences)
    paths = {name: folder / f"{name}.parquet" for name in ("preferences", "examples")}
    write_records(paths["preferences"], believed.preferences, Preference)
    write_records(paths["examples"], examples, Example)
    page = folder / "aggregation.html"
    paths["report"] = write_report(page, believed, counted.counts, place=ballots.place)
    return {
        **counted.counts,
        "n_preferences": len(believed.preferences),
        "n_flipped": made["flipped"],
        "n_ties": made["ties"],
        "method": believed.method,
        "temperature": believed.temperature,
        "uncalibrated": believed.uncalibrated,
        "scores": _scores(believed.evaluation),
        **{name: str(path) for name, path in paths.items()},
    }


def _scores(evaluation: Evaluation | None) -> dict[str, Any]:
    """Log-loss and Brier score of each method with their intervals; {} where nothing was scored."""
    if evaluation is None:
        return {}
    return {
        score.name: {
            "log_loss": score.log_loss.value,
            "log_loss_interval": [score.log_loss.low, score.log_loss.high],
            "brier": score.brier.value,
            "brier_interval": [score.brier.low, score.brier.high],
            "calibration_error": score.calibration_error,
            "temperature": score.temperature,
        }
        for score in (*evaluation.methods, evaluation.auto)
    }


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
    how = value["method"]
    if value["temperature"] is not None:
        how += f", temperature {value['temperature']:.3g}"
    if value["uncalibrated"] is not None:
        how += f", uncalibrated: {value['uncalibrated']}"
    facts: list[tuple[str, object]] = [("method", how)]
    facts += [(text, value[name]) for name, text in shown.items() if value[name] or name in always]
    written = [value[name] for name in ("preferences", "examples", "report")]
    return [*facts, ("written to", written[0]), ("", written[1]), ("", written[2])]
