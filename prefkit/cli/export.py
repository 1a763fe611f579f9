"""``prefkit export``: preferences for TRL and other tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from prefkit.cli.output import facts_table, finish
from prefkit.cli.source import (
    MAP_HELP,
    Ballots,
    examples_of,
    examples_of_ballots,
    is_workspace,
    read_map,
    workspace_ballots,
)

if TYPE_CHECKING:
    from prefkit.formats.load import Loaded

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
NO_PLAIN_TRAINING = ("kto", "ranked", "ultrafeedback")  # other losses than the default take them


@app.command()
def export(
    source: Annotated[
        str,
        typer.Argument(help="A workspace (its votes; by default this folder), a file or a Hub id."),
    ] = ".",
    to: Annotated[
        str,
        typer.Option(
            help="trl, kto, ranked, ultrafeedback, ultrafeedback_binarized, jsonl (as trl, with "
            "tags, votes and evidence) or parquet."
        ),
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
    rationales: Annotated[
        bool,
        typer.Option(
            "--rationales", help="Write what raters wrote into the votes (jsonl and parquet)."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write preferences for other tools: datasets.load_dataset and prefkit train read them.

    trl: prompt, chosen and rejected as messages, with p, weight and margin. kto: prompt,
    completion, label; "both bad" votes of a workspace become two negatives. ranked: the answers
    to a prompt in one list, best first. ultrafeedback: the same in UltraFeedback's columns.

    Of a workspace a dataset card is written beside the file: raters, bias, time, what raters were
    told. Raters stand under opaque ids, never under names.

    Example: prefkit export my-project --to trl --out pairs.jsonl
    """
    from prefkit.core.errors import ConfigError
    from prefkit.formats.export import export as write

    path = out or Path(f"{to}.{'parquet' if to == 'parquet' else 'jsonl'}")
    if Path(source).is_file() and path.resolve() == Path(source).resolve():
        raise ConfigError(f"--out {path}: is the file that is read", hint="choose another --out")
    ballots = workspace_ballots(source, hidden=True) if is_workspace(source) else None
    if rationales:
        _check_rationales(to, ballots)
    if ballots is not None:
        loaded, both_bad = examples_of_ballots(ballots, source)
        loaded = _with_rationales(loaded, ballots) if rationales else loaded
    else:
        loaded, both_bad = examples_of(
            source, layout=layout, split=split, revision=revision, mapping=read_map(mapping)
        )
    counts = write(loaded.table, path, to=to, both_bad=both_bad)
    card = None
    if ballots is not None:
        card = _write_card(ballots, loaded, path, to, counts["n_rows"], rationales=rationales)
    _finish(source, loaded, counts, path, to, card, as_json=as_json)


_SHOWN = ("n_ties_left_out", "n_tied", "n_repeated", "n_both_bad")


def _finish(
    source: str,
    loaded: Loaded,
    counts: dict[str, int],
    path: Path,
    to: str,
    card: Path | None,
    *,
    as_json: bool,
) -> None:
    kind = "parquet" if path.suffix == ".parquet" else "json"
    facts: list[tuple[str, object]] = [
        ("examples", counts["n_examples"]),
        *((name, n) for name, n in loaded.counts.items() if name.startswith("unusable")),
        *((name[2:].replace("_", " "), n) for name, n in counts.items() if n and name in _SHOWN),
        ("rows written", counts["n_rows"]),
        ("file", path),
        *([("dataset card", card)] if card is not None else []),
        ("read it with", f'datasets.load_dataset("{kind}", data_files="{path}")'),
    ]
    following = f"prefkit train {quote(str(path))} --out run1"
    finish(
        {**counts, "to": to, "file": str(path), "card": None if card is None else str(card)},
        as_json=as_json,
        screen=[facts_table(f"Export of {source}", facts)],
        next_command="" if to in NO_PLAIN_TRAINING else following,
    )


def _check_rationales(to: str, ballots: Ballots | None) -> None:
    from prefkit.core.errors import ConfigError
    from prefkit.formats.export import WITH_VOTES

    if ballots is None:
        raise ConfigError("--rationales: only a workspace has them", hint="leave it out")
    if to not in WITH_VOTES:
        raise ConfigError(
            f"--rationales: --to {to} has no column for votes",
            hint=f"--to {' or --to '.join(WITH_VOTES)}",
        )


def _with_rationales(loaded: Loaded, ballots: Ballots) -> Loaded:
    """The same examples, with each vote's rationale in the column ``votes``."""
    from dataclasses import replace

    import pyarrow as pa

    from prefkit.cli.card_facts import with_rationales

    words = {vote.id: vote.rationale for vote in ballots.votes if vote.rationale}
    votes = [
        None if text is None else with_rationales(text, words)
        for text in loaded.table.column("votes").to_pylist()
    ]
    at = loaded.table.schema.get_field_index("votes")
    column = pa.array(votes, loaded.table.schema.field(at).type)
    return replace(loaded, table=loaded.table.set_column(at, "votes", column))


def _write_card(
    ballots: Ballots, loaded: Loaded, path: Path, to: str, n_rows: int, *, rationales: bool
) -> Path:
    """Write the dataset card beside the file; its path."""
    from prefkit.cli.card_facts import card_facts
    from prefkit.core.files import write_text
    from prefkit.formats.card import dataset_card
    from prefkit.formats.export import EXPORTS
    from prefkit.formats.schema import EXAMPLES

    columns: Sequence[str] = EXAMPLES.names if to == "parquet" else EXPORTS.get(to).schema.names
    about = "prefkit's own table of examples" if to == "parquet" else EXPORTS.get(to).about
    facts = card_facts(
        ballots,
        path=path,
        about=about,
        columns=columns,
        n_rows=n_rows,
        method=json.loads(loaded.table.column("evidence")[0].as_py())["method"],
        rationales=rationales,
    )
    card = path.with_name(f"{path.stem}.card.md")
    write_text(card, dataset_card(facts))
    return card
