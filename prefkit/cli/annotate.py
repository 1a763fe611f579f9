"""``prefkit annotate``: open the labelling app on a workspace or on a file of pairs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from prefkit.cli.output import facts_table, finish, say
from prefkit.cli.source import MAP_HELP, read_map

if TYPE_CHECKING:
    from prefkit.annotation.settings import AnnotateSettings
    from prefkit.store import StoreCounts
    from prefkit.workspace import Workspace

    class Ready(Protocol):
        """What the app says once it answers (prefkit_apps.annotate.Ready)."""

        url: str
        local: str | None


app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

MAX_NAME = 64


@app.command(epilog="Labelling needs: pip install 'prefkit[app]'. How it works: docs/label.md")
def annotate(
    path: Annotated[
        Path,
        typer.Argument(
            help="A workspace, or pairs: a file (JSON lines, CSV, Parquet) or a Hub id. A "
            "workspace NAME.prefkit is then made beside the file, or in this folder."
        ),
    ],
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port; 0 takes a free one. Default: prefkit.yaml's."),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="The address of this machine to serve on. Any other than 127.0.0.1 needs accounts "
            "(prefkit users add)."
        ),
    ] = "127.0.0.1",
    rater: Annotated[
        str | None,
        typer.Option(
            help="Your name, where there are no accounts; your votes carry an id that stands for "
            "it. Default: annotator."
        ),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Do not open a browser window.")
    ] = False,
    import_only: Annotated[
        bool, typer.Option("--import-only", help="Make the workspace and stop; serve nothing.")
    ] = False,
    mapping: Annotated[list[str] | None, typer.Option("--map", help=MAP_HELP)] = None,
    split: Annotated[str, typer.Option(help="Split of a Hub data set.")] = "train",
    revision: Annotated[str | None, typer.Option(help="Revision of a Hub data set.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object at the end.")
    ] = False,
) -> None:
    """Label pairs in the browser: one pair at a time, one key a vote.

    Every vote is on disk before the next pair is shown. Stop with Ctrl-C; the same command
    goes on where you stopped, and more pairs in the file are added.

    Example: prefkit annotate pairs.jsonl
    """
    rater = None if rater is None else _checked_rater(rater)
    workspace, imported = _open(path, read_map(mapping), split, revision)
    counts, settings = _counts(workspace)
    if not import_only:
        _serve(workspace, host, port, rater, open_browser=not no_browser, settings=settings)
        counts, settings = _counts(workspace)
    _finish(workspace, counts, settings, imported, as_json=as_json)


def _checked_rater(name: str) -> str:
    from prefkit.core.errors import ConfigError

    name = name.strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise ConfigError(
            f"--rater {name!r}: expected 1 to {MAX_NAME} printable characters",
            hint="for example --rater kim",
        )
    return name


def _open(
    path: Path, mapping: dict[str, str], split: str, revision: str | None
) -> tuple[Workspace, dict[str, int]]:
    """The workspace, and what became of a file's rows (empty for a workspace)."""
    from prefkit.cli.pairs_in import add_pairs, folder_for, pairs_of
    from prefkit.workspace import Workspace

    saved = any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))
    if path.is_dir() and not saved:
        return Workspace.open(path), {}
    source = str(path)
    # Nothing is made beside the file before all of it has been read.
    comparisons, read = pairs_of(source, mapping=mapping, split=split, revision=revision)
    workspace = Workspace(folder_for(source))
    added, _ = add_pairs(workspace, comparisons, verb="annotate", made_from=path.name)
    return workspace, {**read, "n_added": added}


def _counts(workspace: Workspace) -> tuple[StoreCounts, AnnotateSettings]:
    from prefkit.core.errors import WorkspaceError
    from prefkit.rounds.project import read_project
    from prefkit.store import VoteStore

    settings = read_project(workspace).annotate
    with VoteStore.open(settings.store or workspace.store_path, home=workspace.path) as store:
        store.want(settings.k, settings.overlap.most)
        counts = store.counts()
    if not counts.comparisons:
        raise WorkspaceError(
            f"{workspace.path}: there is nothing to label yet",
            hint=f"prefkit loop run {workspace.path} makes pairs",
        )
    return counts, settings


def _serve(
    workspace: Workspace,
    host: str,
    port: int | None,
    rater: str | None,
    *,
    open_browser: bool,
    settings: AnnotateSettings,
) -> None:
    from importlib.metadata import entry_points

    place = settings.store.rpartition("@")[2] if settings.store else str(workspace.store_path)

    def on_ready(ready: Ready) -> None:
        if ready.local is None:
            say(f"label at  {ready.url}  (people log in)")
            if ready.url.startswith("http://") and host not in ("127.0.0.1", "localhost"):
                say("          over http passwords can be read on the way: docs/accounts.md")
        else:
            say(f"label at  {ready.url}  as {ready.local}")
            say("          no accounts: it answers to this machine alone, and nobody logs in")
        say(f"votes in  {place}")
        say("stop with Ctrl-C; the same command goes on where you stopped")

    # Found by its entry point: the command line does not import the apps.
    (app_entry,) = entry_points(group="prefkit.apps", name="annotate")
    serve = app_entry.load()
    serve(workspace, host, port, open_browser=open_browser, rater=rater, on_ready=on_ready)


def _finish(
    workspace: Workspace,
    counts: StoreCounts,
    settings: AnnotateSettings,
    imported: dict[str, int],
    *,
    as_json: bool,
) -> None:
    choices = ", ".join(f"{name} {count}" for name, count in counts.choices.items())
    facts: list[tuple[str, object]] = [
        ("workspace", workspace.path),
        *((f"rows {name.removeprefix('n_')}", number) for name, number in imported.items()),
        ("comparisons", counts.comparisons),
        ("labelled", f"{counts.done} with {settings.k} vote{'s' * (settings.k > 1)}"),
        ("open", counts.open),
        ("votes that stand", f"{counts.standing}" + (f" ({choices})" if choices else "")),
    ]
    value: dict[str, Any] = {
        "workspace": str(workspace.path),
        "imported": imported,
        **dataclasses.asdict(counts),
    }
    value["choices"] = dict(counts.choices)
    next_command = f"prefkit export {quote(str(workspace.path))} --to trl"
    if not counts.done:
        next_command = f"prefkit annotate {quote(str(workspace.path))}"
    finish(
        value, as_json=as_json, screen=[facts_table("annotate", facts)], next_command=next_command
    )
