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
    with open_store(folder)[1] as store:
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
    """Copy the store as of now to an SQLite file, while the app may go on writing to it.

    Example: prefkit store backup pairs.prefkit --to /mnt/safe/votes.db
    """
    workspace, store = open_store(folder)
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
def copy(
    folder: Folder,
    to: Annotated[
        str,
        typer.Option(help="An empty PostgreSQL database (postgresql+psycopg://…), or a new file."),
    ],
    as_json: AsJson = False,
) -> None:
    """Copy the store as of now into another database, for example to move a team to PostgreSQL.

    The copy is checked before it is kept. The workspace goes on using the store it has: stop the
    app, copy, then set `annotate.store` in prefkit.yaml.

    Example: prefkit store copy pairs.prefkit --to postgresql+psycopg://prefkit@db/votes
    """
    with open_store(folder)[1] as store:
        name, counts = store.copy_to(to), store.counts()
    shown = [
        f"{counts.comparisons} comparisons and {counts.votes} votes copied to {name}",
        "votes that come from now on are not in it: set annotate.store in prefkit.yaml",
    ]
    value = {"copy": name, "comparisons": counts.comparisons, "votes": counts.votes}
    finish(value, as_json=as_json, screen=shown)


@app.command()
def verify(folder: Folder, as_json: AsJson = False) -> None:
    """Check file, chains, signed heads and views; exit code 1 where something is wrong.

    Example: prefkit store verify pairs.prefkit
    """
    with open_store(folder)[1] as store:
        examined, name = store.examine(), store.name
    faults = examined.faults
    facts = dataclasses.asdict(examined)
    shown = [f"{name}: {fault}" for fault in faults] or [f"{name}: sound"]
    shown.append(
        f"{examined.n_events} events of {examined.n_raters} raters; "
        f"{examined.n_checked} of {examined.n_heads} signed heads checked"
    )
    if examined.n_checked < examined.n_heads:
        shown.append("the other heads were signed under a key that is not here (store.key)")
    finish({"store": name, "sound": not faults, **facts}, as_json=as_json, screen=shown)
    if faults:
        raise typer.Exit(1)


@app.command()
def replay(
    folder: Folder,
    write: Annotated[
        bool, typer.Option("--write", help="Put the rebuilt views in the place of those there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Rebuild votes, what stands and all counters from the events, and compare them.

    Exit code 1 where they differ and were not written.

    Example: prefkit store replay pairs.prefkit
    """
    with open_store(folder)[1] as store:
        differing, name = store.replay(write=write), store.name
    shown = [f"{name}: {line}" for line in differing]
    shown.append(
        f"{name}: the views are what the events say"
        if not differing
        else f"{name}: {len(differing)} differences" + (", mended" if write else "")
    )
    value = {"store": name, "same": not differing, "differences": differing, "written": write}
    finish(value, as_json=as_json, screen=shown)
    if differing and not write:
        raise typer.Exit(1)


@app.command()
def migrate(folder: Folder, as_json: AsJson = False) -> None:
    """Bring an older store to this version's schema, after a backup beside it.

    Every other command does the same when it opens the store.

    Example: prefkit store migrate pairs.prefkit
    """
    with open_store(folder)[1] as store:
        revision, made = store.revision(), store.migration_backup
    value = {"schema": revision, "migrated": made is not None, "backup": made and str(made)}
    shown = f"schema {revision}" + (f"; the store before: {made}" if made else ": up to date")
    finish(value, as_json=as_json, screen=[shown])


def open_store(folder: Path, *, create: bool = False) -> tuple[Workspace, VoteStore]:
    """A workspace and its vote store; StoreError where it has none yet, unless ``create``."""
    from prefkit.rounds.project import read_project
    from prefkit.store import VoteStore
    from prefkit.workspace import Workspace

    workspace = Workspace.open(folder)
    address = read_project(workspace).annotate.store or workspace.store_path
    return workspace, VoteStore.open(address, create=create, home=workspace.path)
