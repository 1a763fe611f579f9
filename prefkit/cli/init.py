"""``prefkit init``."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from prefkit.cli.output import facts_table, finish
from prefkit.core.errors import ModelError

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make.")],
    model: Annotated[
        str, typer.Option(help="The policy: a Hub id, a folder, a GGUF file, or smollm2.")
    ] = "smollm2",
    prompts: Annotated[
        Path | None,
        typer.Option(help="Your prompts (.jsonl, .txt, .csv, .parquet); default: examples."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a workspace: prefkit.yaml with every key explained, prompts.jsonl and rounds/.

    Example: prefkit init my-project --prompts questions.jsonl
    """
    from prefkit.rounds.project import Project, init_workspace, starter_prompts

    rows = starter_prompts(prompts)
    # A path of this machine must mean the same from any folder.
    local = Path(model).expanduser()
    if not local.exists() and (local.is_absolute() or model.startswith((".", "~"))):
        raise ModelError(f"{model}: no such model folder or file", hint="check the path")
    chosen = str(local.resolve()) if local.exists() else model
    workspace = init_workspace(folder, Project(model=chosen), rows)
    result = {
        "workspace": str(workspace.path),
        "config": str(workspace.config_path),
        "n_prompts": len(rows),
    }
    facts = [
        ("workspace", workspace.path),
        ("prompts", len(rows)),
        ("configuration", "prefkit.yaml"),
    ]
    finish(
        result,
        as_json=as_json,
        screen=[facts_table("made", facts)],
        next_command=f"edit {workspace.config_path}, then: prefkit loop run {quote(str(folder))}",
    )
