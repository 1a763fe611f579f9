"""``prefkit export``: preferences for TRL and other tools."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from prefkit.cli.output import facts_table, finish
from prefkit.cli.source import MAP_HELP, examples_of, read_map

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def export(
    source: Annotated[
        str,
        typer.Argument(help="A workspace (its votes; by default this folder), a file or a Hub id."),
    ] = ".",
    to: Annotated[
        str,
        typer.Option(help="trl, kto, jsonl (as trl, with tags and evidence) or parquet."),
    ] = "trl",
    out: Annotated[
        Path | None, typer.Option(help="A .jsonl or .parquet file. Default: TO.jsonl here.")
    ] = None,
    mapping: Annotated[list[str] | None, typer.Option("--map", help=MAP_HELP)] = None,
    layout: Annotated[
        str | None, typer.Option(help="Say the layout instead of having it detected.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of a Hub data set.")] = "train",
    revision: Annotated[str | None, typer.Option(help="Revision of a Hub data set.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write preferences for other tools: datasets.load_dataset and prefkit train read them.

    trl: prompt, chosen and rejected as messages, with p, weight and margin. kto: prompt,
    completion, label; "both bad" votes of a workspace become two negatives.

    Example: prefkit export my-project --to trl --out pairs.jsonl
    """
    from prefkit.core.errors import ConfigError
    from prefkit.formats.export import export as write

    loaded, both_bad = examples_of(
        source, layout=layout, split=split, revision=revision, mapping=read_map(mapping)
    )
    path = out or Path(f"{to}.{'parquet' if to == 'parquet' else 'jsonl'}")
    if Path(source).is_file() and path.resolve() == Path(source).resolve():
        raise ConfigError(f"--out {path}: is the file that is read", hint="choose another --out")
    counts = write(loaded.table, path, to=to, both_bad=both_bad)
    kind = "parquet" if path.suffix == ".parquet" else "json"
    facts: list[tuple[str, object]] = [
        ("examples", counts["n_examples"]),
        *((name, n) for name, n in loaded.counts.items() if name.startswith("unusable")),
        *((name[2:].replace("_", " "), n) for name, n in counts.items() if n and name in _SHOWN),
        ("rows written", counts["n_rows"]),
        ("file", path),
        ("read it with", f'datasets.load_dataset("{kind}", data_files="{path}")'),
    ]
    finish(
        {**counts, "to": to, "file": str(path)},
        as_json=as_json,
        screen=[facts_table(f"Export of {source}", facts)],
        next_command=f"prefkit train {quote(str(path))} --out run1" if to != "kto" else "",
    )


_SHOWN = ("n_ties_left_out", "n_repeated", "n_both_bad")
