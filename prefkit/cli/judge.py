"""``prefkit judge``: a machine votes on comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefkit.cli.output import facts_table, finish, progress_bars

if TYPE_CHECKING:
    from prefkit.core.records import Comparison
    from prefkit.judging import JudgeSettings

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def judge(
    source: Annotated[
        Path, typer.Argument(help="A workspace, or a file of comparisons (Parquet, JSON lines).")
    ],
    rater: Annotated[
        str | None,
        typer.Option(
            help="Who votes: a rule (format), or llm for a model as judge. Default: format, or "
            "the judge section of the workspace."
        ),
    ] = None,
    noise: Annotated[
        float | None, typer.Option(help="Rules: the share of verdicts to flip, 0 to 0.5.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Rules: which verdicts flip.")] = None,
    model: Annotated[
        str | None, typer.Option(help="llm: the judge, a Hub id, a folder or a GGUF file.")
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(help="Workspaces: only comparisons of this origin, for example round:1."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where a file's votes go. Default: NAME.votes.parquet beside it."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another setting, for example engine.backend=transformers."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Let a machine vote: a rule that scores answers, or a model as judge.

    The votes of a workspace go into its store; asking the same rater again adds none. A
    comparison on which the rater has no verdict gets no vote and is counted with the reason.

    Example: prefkit judge comparisons.parquet --rater format --noise 0.1 --out votes.parquet
    """
    from prefkit.judging import judge as vote
    from prefkit.settings import parse_settings
    from prefkit.workspace import CONFIG_NAME

    options = {"rater": rater, "noise": noise, "seed": seed, "model": model}
    given = {name: value for name, value in options.items() if value is not None}
    if (source / CONFIG_NAME).is_file():
        from prefkit.rounds.project import read_project

        base = read_project(_workspace(source)).judge.model_dump()
    else:
        base = {}
    from prefkit.judging import JudgeSettings

    settings = parse_settings(JudgeSettings, {**base, **given}, overrides or ())
    if (source / CONFIG_NAME).is_file():
        _judge_workspace(source, settings, origin, as_json=as_json)
        return
    from prefkit.core.records import Vote
    from prefkit.formats.load import load_comparisons
    from prefkit.formats.tables import write_records

    comparisons = load_comparisons(source)
    with progress_bars() as progress:
        judged = vote(comparisons, settings, progress=progress)
    path = out or source.with_suffix(".votes.parquet")
    write_records(path, judged.votes, Vote)
    value = _value(comparisons, judged, settings) | {"votes": str(path)}
    _finish(value, as_json=as_json, next_command=f"prefkit aggregate {source} --votes {path}")


def _workspace(path: Path) -> Any:
    from prefkit.workspace import Workspace

    return Workspace.open(path)


def _judge_workspace(
    path: Path, settings: JudgeSettings, origin: str | None, *, as_json: bool
) -> None:
    from prefkit.judging import judge as vote
    from prefkit.store import VoteStore

    workspace = _workspace(path)
    store = VoteStore.open(workspace.store_path)
    try:
        comparisons = store.comparisons(origin=origin)
        with progress_bars() as progress:
            judged = vote(
                comparisons, settings, journal=workspace.path / "judge", progress=progress
            )
        before = len(store.votes())
        store.add_votes(judged.votes)
        n_added = len(store.votes()) - before
    finally:
        store.close()
    value = _value(comparisons, judged, settings)
    value |= {"n_added": n_added, "votes": str(workspace.store_path)}
    _finish(value, as_json=as_json, next_command=f"prefkit aggregate {path}")


def _value(
    comparisons: Sequence[Comparison], judged: Any, settings: JudgeSettings
) -> dict[str, Any]:
    return {
        "rater": settings.rater,
        "noise": settings.noise,
        "n_comparisons": len(comparisons),
        "n_votes": len(judged.votes),
        "choices": dict(Counter(vote.choice for vote in judged.votes)),
        "failed": judged.failed,
    }


def _finish(value: dict[str, Any], *, as_json: bool, next_command: str) -> None:
    choices = value["choices"]
    facts: list[tuple[str, object]] = [
        ("rater", value["rater"]),
        ("comparisons", value["n_comparisons"]),
        ("votes", f"{value['n_votes']}: " + ", ".join(f"{n} {c}" for c, n in choices.items())),
        *((f"no vote: {reason}", n) for reason, n in value["failed"].items()),
    ]
    if "n_added" in value:
        facts.append(("new in the store", value["n_added"]))
    facts.append(("written to", value["votes"]))
    finish(value, as_json=as_json, screen=[facts_table("Votes", facts)], next_command=next_command)
