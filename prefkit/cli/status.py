"""``prefkit status``."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from prefkit.cli.output import facts_table, finish, rows_table

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(help="A workspace.")] = Path("."),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say where each round stands, how many votes there are, and what to run next.

    Example: prefkit status my-project
    """
    from prefkit.rounds.status import workspace_status
    from prefkit.workspace import Workspace

    value = workspace_status(Workspace.open(folder), shown_as=quote(str(folder)))
    stages = list(value["rounds"][0]["stages"]) if value["rounds"] else []
    rows = [
        [r["round"], *("done" if r["stages"][stage] else "–" for stage in stages)]
        for r in value["rounds"]
    ]
    votes = value["votes"]
    finish(
        value,
        as_json=as_json,
        screen=[
            facts_table(
                str(value["workspace"]),
                [
                    ("comparisons", votes["n_comparisons"]),
                    ("votes", votes["n_votes"]),
                    ("comparisons without a vote", votes["n_unvoted"]),
                ],
            ),
            rows_table("rounds", ["round", *stages], rows) if rows else "no round has begun",
        ],
        next_command=value["next"],
    )
