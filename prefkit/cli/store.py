"""``prefkit store``: look after the votes of a workspace."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefkit.cli.output import facts_table, finish

if TYPE_CHECKING:
    from prefkit.store import VoteStore
    from prefkit.workspace import Workspace

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    help="Look after the votes of a workspace. Example: prefkit store info DIR",
)
Folder = Annotated[Path, typer.Argument(metavar="WORKSPACE", help="A workspace folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def info(folder: Folder, as_json: AsJson = False) -> None:
    """Say where the votes are and how many there are.

    Example: prefkit store info pairs.prefkit
    """
    with _open(folder)[1] as store:
        counts, revision = store.counts(), store.revision()
        origins = store.origins()
        name = store.name
    facts: list[tuple[str, object]] = [
        ("store", name),
        ("schema", revision),
        ("comparisons", counts.comparisons),
        ("origins", ", ".join(origins)),
        ("labelled", counts.done),
        ("open", counts.open),
        ("votes ever written", counts.votes),
        ("votes that stand", counts.standing),
        *((f"  {choice}", number) for choice, number in counts.choices.items()),
        ("raters", counts.raters),
    ]
    value = {"store": name, "schema": revision, "origins": origins, **dataclasses.asdict(counts)}
    value["choices"] = dict(counts.choices)
    finish(value, as_json=as_json, screen=[facts_table("vote store", facts)])


@app.command()
def backup(
    folder: Folder,
    to: Annotated[
        Path | None,
        typer.Option(help="The copy. Default: votes-DATE.db in the workspace's backups/ folder."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy the store as of now, while the app may go on writing to it.

    Example: prefkit store backup pairs.prefkit --to /mnt/safe/votes.db
    """
    workspace, store = _open(folder)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    with store:
        target = store.backup(to or workspace.path / "backups" / f"votes-{stamp}.db")
    size = target.stat().st_size
    finish(
        {"backup": str(target), "bytes": size},
        as_json=as_json,
        screen=[f"{target} ({size:,} bytes)"],
    )


@app.command()
def verify(folder: Folder, as_json: AsJson = False) -> None:
    """Check the file and count every counter again; exit code 1 where something is wrong.

    Example: prefkit store verify pairs.prefkit
    """
    with _open(folder)[1] as store:
        faults, name = store.verify(), store.name
    shown = [f"{name}: {fault}" for fault in faults] or [f"{name}: sound"]
    finish({"store": name, "sound": not faults, "faults": faults}, as_json=as_json, screen=shown)
    if faults:
        raise typer.Exit(1)


@app.command()
def migrate(folder: Folder, as_json: AsJson = False) -> None:
    """Bring an older store to this version's schema, after a backup beside it.

    Every other command does the same when it opens the store.

    Example: prefkit store migrate pairs.prefkit
    """
    with _open(folder)[1] as store:
        revision, made = store.revision(), store.migration_backup
    value = {"schema": revision, "migrated": made is not None, "backup": made and str(made)}
    shown = f"schema {revision}" + (f"; the store before: {made}" if made else ": up to date")
    finish(value, as_json=as_json, screen=[shown])


def _open(folder: Path) -> tuple[Workspace, VoteStore]:
    from prefkit.rounds.project import read_project
    from prefkit.store import VoteStore
    from prefkit.workspace import Workspace

    workspace = Workspace.open(folder)
    address = read_project(workspace).annotate.store or workspace.store_path
    return workspace, VoteStore.open(address, create=False)
