"""``prefkit doctor``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from prefkit.cli.output import finish, rows_table

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
MARKS = {"ok": "ok", "note": "note", "fault": "FAULT"}


@app.command()
def doctor(
    folder: Annotated[Path, typer.Argument(help="A workspace, or where one would be made.")] = Path(
        "."
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check Python, PyTorch, the GPU, vLLM, memory, disk, the cache and the vote store.

    Each fault comes with its mend. Exit code 0 when nothing keeps `prefkit demo` from running,
    1 otherwise; a note stops nothing.

    Example: prefkit doctor my-project
    """
    from prefkit.cli.machine import examine

    checks = examine(folder)
    n_faults = sum(check.state == "fault" for check in checks)
    rows = [[MARKS[check.state], check.name, check.found] for check in checks]
    mends = [f"{check.name}: {check.mend}" for check in checks if check.mend]
    finish(
        {"ok": n_faults == 0, "n_faults": n_faults, "checks": [asdict(c) for c in checks]},
        as_json=as_json,
        screen=[
            rows_table("this machine", ["", "what", "found"], rows),
            *(["", "to mend", *(f"  {mend}" for mend in mends)] if mends else []),
            "" if n_faults else "\nnothing keeps the demo from running",
        ],
        next_command="" if n_faults else "prefkit demo",
    )
    if n_faults:
        raise typer.Exit(1)
