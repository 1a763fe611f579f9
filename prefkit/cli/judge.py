"""``prefkit judge``: a machine votes on comparisons."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefkit.cli.output import facts_table, finish, progress_bars

if TYPE_CHECKING:
    from prefkit.judging import Judged, JudgeSettings
    from prefkit.workspace import Workspace

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def judge(
    source: Annotated[
        Path, typer.Argument(help="A workspace, or a file of comparisons (Parquet, JSON lines).")
    ],
    rater: Annotated[
        str | None,
        typer.Option(
            help="Who votes: a rule (format), llm for a model as judge, reward for a reward "
            "model. Default: format, or what the judge section of the workspace says."
        ),
    ] = None,
    noise: Annotated[
        float | None, typer.Option(help="Rules: the share of verdicts to flip, 0 to 0.5.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Rules: which verdicts flip.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="llm and reward: the judge, a Hub id, a folder or a GGUF file."),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(help="reward: an adapter trained over it with loss=bradley_terry."),
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(help="Workspaces: only comparisons of this origin, for example round:1."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Files: where the votes go. Default: NAME.votes.parquet beside it."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another setting, for example engine.backend=transformers."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Let a machine vote: a rule that scores answers, a model as judge, or a reward model.

    The votes of a workspace go into its store; asking the same rater again adds none. A
    comparison on which the rater has no verdict gets no vote and is counted with the reason.

    Example: prefkit judge comparisons.parquet --rater format --noise 0.1 --out votes.parquet
    """
    from prefkit.core.errors import ConfigError
    from prefkit.judging import JudgeSettings
    from prefkit.rounds.project import read_project
    from prefkit.settings import parse_settings
    from prefkit.workspace import Workspace

    options = {
        "rater": rater,
        "noise": noise,
        "seed": seed,
        "model": model,
        "adapter": adapter,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if source.is_dir():
        if out is not None:
            raise ConfigError(
                f"--out {out}: the votes of a workspace go into its store",
                hint="leave --out away, or give a file of comparisons",
            )
        workspace = Workspace.open(source)
        project = read_project(workspace)
        written = project.judge.model_dump()
        settings = parse_settings(JudgeSettings, {**written, **given}, overrides or ())
        value = _judge_workspace(workspace, settings, origin, project.annotate.store)
        following = f"prefkit aggregate {quote(str(source))}"
    else:
        if origin is not None:
            raise ConfigError(f"--origin {origin}: only a workspace has origins")
        settings = parse_settings(JudgeSettings, given, overrides or ())
        path = out or source.with_suffix(".votes.parquet")
        value = _judge_file(source, settings, path)
        following = f"prefkit aggregate {quote(str(source))} --votes {quote(str(path))}"
    finish(value, as_json=as_json, screen=[_screen(value)], next_command=following)


def _judge_file(source: Path, settings: JudgeSettings, out: Path) -> dict[str, Any]:
    from prefkit.core.records import Vote
    from prefkit.formats.comparisons import load_comparisons
    from prefkit.formats.tables import write_records
    from prefkit.judging import judge as vote

    comparisons = load_comparisons(source)
    with progress_bars() as progress:
        judged = vote(comparisons, settings, progress=progress)
    write_records(out, judged.votes, Vote)
    return _value(len(comparisons), judged, settings) | {"votes": str(out)}


def _judge_workspace(
    workspace: Workspace, settings: JudgeSettings, origin: str | None, address: str | None
) -> dict[str, Any]:
    from prefkit.core.errors import DataError
    from prefkit.judging import judge as vote
    from prefkit.store import VoteStore

    # The address may hold a password.
    place = address.rpartition("@")[2] if address else str(workspace.store_path)
    with VoteStore.open(address or workspace.store_path, home=workspace.path) as store:
        comparisons = store.comparisons(origin=origin)
        if not comparisons:
            raise DataError(
                f"{place}: no comparisons" + (f" of {origin!r}" if origin else ""),
                hint=f"known origins: {', '.join(store.origins()) or 'none'}",
            )
        with progress_bars() as progress:
            judged = vote(
                comparisons, settings, journal=workspace.path / "judge", progress=progress
            )
        n_added = store.add_votes(judged.votes)
    value = _value(len(comparisons), judged, settings)
    return value | {"n_added": n_added, "votes": place}


def _value(n_comparisons: int, judged: Judged, settings: JudgeSettings) -> dict[str, Any]:
    return {
        "rater": settings.rater,
        "noise": settings.noise,
        "n_comparisons": n_comparisons,
        "n_votes": len(judged.votes),
        "choices": dict(Counter(vote.choice for vote in judged.votes)),
        "failed": judged.failed,
    }


def _screen(value: dict[str, Any]) -> Any:
    choices = ", ".join(f"{n} {choice}" for choice, n in sorted(value["choices"].items()))
    facts: list[tuple[str, object]] = [
        ("rater", value["rater"]),
        ("comparisons", value["n_comparisons"]),
        ("votes", f"{value['n_votes']} ({choices})"),
        *((f"no vote: {reason}", n) for reason, n in value["failed"].items()),
    ]
    if "n_added" in value:
        facts.append(("new in the store", value["n_added"]))
    return facts_table("Votes", [*facts, ("written to", value["votes"])])
