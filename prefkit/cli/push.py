"""``prefkit push``: what training left goes to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prefkit.cli.output import facts_table, finish, progress_bars

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="OUT/adapter, OUT/model or a merged model.")],
    repo: Annotated[str, typer.Argument(help="Repository on the Hub: ORG/NAME.")],
    public: Annotated[bool, typer.Option(help="Make a new repository public.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Upload an adapter or model with its card; needs HF_TOKEN or `hf auth login`.

    Paths of this machine do not go with it. Nothing else in prefkit uploads anything.

    Example: prefkit push run1/adapter my-org/my-adapter
    """
    from prefkit.training.push import push_to_hub

    with progress_bars() as progress:
        address = push_to_hub(folder, repo, private=not public, progress=progress)
    finish(
        {"repo": repo, "commit": address},
        as_json=as_json,
        screen=[facts_table("Uploaded", [("repository", repo), ("commit", address)])],
    )
