"""``prefkit inspect``: what a data file holds, before anything is done with it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefkit.cli.inspect_trained import inspect_as_trained
from prefkit.cli.output import facts_table, finish, rows_table
from prefkit.cli.source import MAP_HELP, examples_of, is_workspace, read_map

if TYPE_CHECKING:
    import polars as pl

    from prefkit.formats.load import Loaded

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


class Overlong(StrEnum):
    """What becomes of rows longer than max_length."""

    answers = "answers"
    prompt = "prompt"
    drop = "drop"


BINS = ((0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.0))


@app.command()
def inspect(
    data: Annotated[str, typer.Argument(help="A file, a Hub id (owner/name) or a workspace.")],
    rows: Annotated[int, typer.Option(help="How many rows to show.")] = 3,
    mapping: Annotated[list[str] | None, typer.Option("--map", help=MAP_HELP)] = None,
    layout: Annotated[
        str | None, typer.Option(help="Say the layout instead of having it detected.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of a Hub data set.")] = "train",
    revision: Annotated[str | None, typer.Option(help="Revision of a Hub data set.")] = None,
    as_trained: Annotated[
        str | None,
        typer.Option(
            "--as-trained",
            metavar="MODEL",
            help="Show the rows in this model's tokens, with what is trained on and what is odd.",
        ),
    ] = None,
    max_length: Annotated[
        int, typer.Option(min=8, help="With --as-trained: as in prefkit train.")
    ] = 1024,
    overlong: Annotated[
        Overlong, typer.Option(help="With --as-trained: as in prefkit train.")
    ] = Overlong.answers,
    chat_template_kwargs: Annotated[
        str, typer.Option(metavar="JSON", help="With --as-trained: as in prefkit train.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look at a data file: its layout and why, counts, p, lengths and the first rows.

    Example: prefkit inspect pairs.jsonl

    Example: prefkit inspect strange.csv --map prompt=question --map chosen=better

    Example: prefkit inspect pairs.jsonl --as-trained smollm2
    """
    if as_trained is not None:
        inspect_as_trained(
            data,
            as_trained,
            n_rows=rows,
            max_length=max_length,
            overlong=overlong.value,
            as_json=as_json,
            layout=layout,
            split=split,
            revision=revision,
            mapping=read_map(mapping),
            arguments=_object(chat_template_kwargs),
        )
        return
    records = _record_file(data)
    if records is not None:
        _finish_records(data, *records, as_json=as_json)
        return
    loaded, _ = examples_of(
        data, layout=layout, split=split, revision=revision, mapping=read_map(mapping)
    )
    from prefkit.curation.columns import columns_of

    columns = columns_of(loaded.table)
    value = _value(data, loaded, columns)
    shown = columns.select("prompt", "chosen", "rejected", "p").head(rows).to_dicts()
    value["rows"] = shown
    finish(
        value,
        as_json=as_json,
        screen=[
            facts_table(f"{data}", _facts(loaded, value)),
            rows_table("p = P(chosen wins)", ("p", "rows"), list(value["p"].items())),
            rows_table(
                "Characters", ("", "least", "median", "most"), _length_rows(value["characters"])
            ),
            rows_table(
                "First rows",
                ("prompt", "chosen", "rejected", "p"),
                [[_short(v) for v in row.values()] for row in shown],
            ),
        ],
        next_command=f"prefkit curate {quote(data)} --recipe quick --out curated",
    )


def _object(text: str) -> dict[str, Any]:
    from prefkit.core.errors import ConfigError
    from prefkit.formats.values import object_value

    try:
        return object_value(text, "--chat-template-kwargs")
    except ValueError as error:
        raise ConfigError(str(error), hint='for example {"enable_thinking": false}') from None


def _record_file(data: str) -> tuple[str, int] | None:
    """The kind and number of records, if the file is one of prefkit's own tables but Examples."""
    path = Path(data).expanduser()
    if path.suffix != ".parquet" or not path.is_file() or is_workspace(data):
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    from prefkit.core.errors import DataError
    from prefkit.core.records import Example
    from prefkit.formats.schema import SCHEMAS

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a parquet file: {error}") from None
    with file:
        names = set(file.schema_arrow.names)
        for kind, schema in SCHEMAS.items():
            if kind is not Example and names == set(schema.names):
                return kind.__name__.lower() + "s", file.metadata.num_rows
    return None


def _finish_records(data: str, kind: str, n: int, *, as_json: bool) -> None:
    following = {
        "comparisons": f"prefkit annotate {quote(data)}",
        "votes": "prefkit aggregate --help",
    }
    finish(
        {"file": data, "kind": kind, "n_rows": n},
        as_json=as_json,
        screen=[facts_table(data, [("kind", f"prefkit's own {kind}"), ("rows", n)])],
        next_command=following.get(kind, ""),
    )


def _value(data: str, loaded: Loaded, columns: pl.DataFrame) -> dict[str, Any]:
    return {
        "source": data,
        "layout": loaded.layout,
        "evidence": list(loaded.evidence),
        "unused_columns": list(loaded.unused_columns),
        **loaded.counts,
        "n_prompts": columns["prompt_id"].n_unique(),
        "n_identical_pairs": int((columns["chosen"] == columns["rejected"]).sum()),
        "p": _p_counts(columns["p"]),
        "characters": {name: _lengths(columns[name]) for name in ("prompt", "chosen", "rejected")},
    }


def _p_counts(p: pl.Series) -> dict[str, int]:
    """Rows by p: exactly 0.5, then bins that hold their upper end."""
    counts = {"0.5 (tie)": int((p == 0.5).sum())}
    for low, high in BINS:
        inside = (p > low) & (p <= high) if high < 1 else (p > low) & (p < 1)
        counts[f"{low:g} to {high:g}"] = int(inside.sum())
    counts["1 (certain)"] = int((p == 1).sum())
    return counts


def _lengths(text: pl.Series) -> dict[str, float] | None:
    lengths = text.str.len_chars()
    if lengths.is_empty():
        return None
    return {name: float(getattr(lengths, name)()) for name in ("min", "median", "max")}


def _length_rows(lengths: dict[str, dict[str, float] | None]) -> list[list[str]]:
    return [[name, *(f"{n:g}" for n in found.values())] for name, found in lengths.items() if found]


def _facts(loaded: Loaded, value: dict[str, Any]) -> list[tuple[str, object]]:
    first, *rest = loaded.evidence
    facts: list[tuple[str, object]] = [("layout", f"{loaded.layout}: {first}")]
    facts += [("", line) for line in rest]
    if loaded.unused_columns:
        facts.append(("columns not used", ", ".join(loaded.unused_columns)))
    facts += [("rows read", loaded.n_read), ("examples", loaded.table.num_rows)]
    facts += [(name, n) for name, n in loaded.counts.items() if name.startswith("unusable")]
    facts += [(f"  {place}", reason) for place, reason in loaded.unusable[:3]]
    named = {
        "n_flipped": "sides swapped (p < 0.5)",
        "n_diverging": "dialogues that part early",
        "n_identical_pairs": "identical pairs",
    }
    facts += [(text, value[name]) for name, text in named.items() if value[name]]
    return [*facts, ("distinct prompts", value["n_prompts"])]


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    text = " ".join(str(value).split())
    return text if len(text) <= 70 else text[:69] + "…"
