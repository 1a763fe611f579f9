"""``prefkit curate``: filter a preference set by a recipe."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from prefkit.cli.output import facts_table, finish, rows_table
from prefkit.cli.source import MAP_HELP, examples_of, read_map

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

WRITTEN = ("examples.parquet", "dropped.parquet", "ledger.parquet", "scores.parquet")


@app.command()
def curate(
    data: Annotated[
        str,
        typer.Argument(help="A file, a Hub id (owner/name) or a workspace."),
    ],
    recipe: Annotated[
        str, typer.Option(help="A shipped recipe (none, quick) or a YAML file.")
    ] = "quick",
    out: Annotated[
        Path, typer.Option(help="Folder for examples, dropped, ledger and scores.")
    ] = Path("curated"),
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a stage, for example length_ratio.max=4. Repeatable."),
    ] = None,
    mapping: Annotated[list[str] | None, typer.Option("--map", help=MAP_HELP)] = None,
    layout: Annotated[
        str | None, typer.Option(help="Say the layout instead of having it detected.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of a Hub data set.")] = "train",
    revision: Annotated[str | None, typer.Option(help="Revision of a Hub data set.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Filter a preference set; every dropped row keeps its reason.

    OUT gets examples.parquet (kept), dropped.parquet (with stage, reason, score and the row it
    matched), ledger.parquet (one verdict a row), scores.parquet and curation.json. Where several
    stages would drop a row, the first one is its reason.

    Example: prefkit curate pairs.jsonl --recipe quick --set length_ratio.max=4 --out curated
    """
    from prefkit.curation import curate as run
    from prefkit.curation import read_recipe

    resolved = read_recipe(recipe, overrides or ())  # faults of the recipe before any reading
    _refuse_own_input(data, out)
    loaded, _ = examples_of(
        data, layout=layout, split=split, revision=revision, mapping=read_map(mapping)
    )
    curation = run(loaded, resolved)
    curation.write(out)
    counts = curation.counts
    value: dict[str, Any] = {**counts, "layout": loaded.layout, "out": str(out)}
    facts: list[tuple[str, object]] = [
        ("layout", f"{loaded.layout}: {loaded.evidence[0]}"),
        ("recipe", f"{resolved.label}: {resolved.about}"),
        ("rows read", loaded.n_read),
        *((name, n) for name, n in counts.items() if name.startswith("unusable")),
        *([("sides swapped (p < 0.5)", loaded.n_flipped)] if loaded.n_flipped else []),
        ("kept", counts["n_kept"]),
        ("dropped", counts["n_dropped"]),
        ("written to", out),
    ]
    stages = [
        (name, entry.unit, band, counts["dropped"][name], counts["abstained"].get(name, 0))
        for name, _, entry, band in resolved.running()
    ]
    header = ("stage", "score", "stays", "dropped", "no score")
    table = rows_table("Dropped by stage, in order", header, stages)
    finish(
        value,
        as_json=as_json,
        screen=[facts_table(f"Curation of {data}", facts), table],
        next_command=f"prefkit inspect {quote(str(out))}" if counts["n_kept"] else "",
    )


def _refuse_own_input(data: str, out: Path) -> None:
    """ConfigError where the result would take the place of what it is made from."""
    from prefkit.core.errors import ConfigError

    source = Path(data).expanduser().resolve()
    folder = out.expanduser().resolve()
    own_folder = folder == source and (folder / "examples.parquet").is_file()
    if own_folder or (folder == source.parent and source.name in WRITTEN):
        raise ConfigError(
            f"--out {out}: {data} would be overwritten by its own curation",
            hint="choose another folder for --out",
        )
