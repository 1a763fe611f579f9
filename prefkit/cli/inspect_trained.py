"""``prefkit inspect DATA --as-trained MODEL``: the rows in the model's tokens, and what is odd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from prefkit.cli.output import facts_table, plain, print_json, rows_table, stdout
from prefkit.cli.source import examples_of, is_workspace

if TYPE_CHECKING:
    from prefkit.policy.template import Truncation
    from prefkit.training.inspection import Inspection, Piece
    from prefkit.training.rows import ReadRows, Row

SHOWN = 5
STYLES = {"prompt": "dim", "read": "dim italic", "trained": "bold green"}
MARKS = ("{+", "+}")  # around what is trained on, where there is no colour


def inspect_as_trained(
    data: str,
    model: str,
    *,
    n_rows: int,
    max_length: int,
    overlong: Truncation,
    as_json: bool,
    **where: Any,
) -> None:
    """Print the inspection; where: layout, split, revision and mapping of the data, and
    arguments for the chat template."""
    from prefkit.core.errors import require

    require("transformers", "train")
    from prefkit.core.files import read_json
    from prefkit.policy.context import context_of
    from prefkit.policy.load import load_tokenizer
    from prefkit.policy.resolve import resolve_model
    from prefkit.training.inspection import inspect_rows, pieces

    read = _read(data, where)
    source = resolve_model(model)
    tokenizer = load_tokenizer(source)
    context = context_of(read_json(source.path / "config.json"))
    # As training does; a method with virtual tokens has that many fewer.
    max_length = min(max_length, context or max_length)
    found = inspect_rows(
        tokenizer, read.rows, max_length=max_length, overlong=overlong, dropped=read.dropped
    )
    shown = found.rows.rows[:n_rows]
    rendered = [(row, *pieces(tokenizer, row.tree)) for row in shown]
    if as_json:
        print_json(_json(data, model, read, found, rendered, max_length, overlong))
        return
    for block in _screen(model, read, found, max_length):
        stdout.print(block)
    for row, prompt, answers in rendered:
        stdout.print(_row_text(row, prompt, answers))


def _read(data: str, where: Mapping[str, Any]) -> ReadRows:
    from prefkit.training.rows import read_rows

    if is_workspace(data):
        loaded, _ = examples_of(data)
        return read_rows(loaded.table, arguments=where["arguments"])
    return read_rows(data, **where)


def _json(
    data: str,
    model: str,
    read: ReadRows,
    found: Inspection,
    rendered: Sequence[tuple[Row, Piece, Sequence[Sequence[Piece]]]],
    max_length: int,
    overlong: str,
) -> dict[str, Any]:
    return {
        "source": data,
        "model": model,
        "layout": read.read.layout,
        "max_length": max_length,
        "overlong": overlong,
        "n_read": read.read.n_read,
        "n_rows": len(found.rows.rows),
        "dropped": found.rows.dropped,
        "left_out": {"tied": read.read.n_tied} if read.read.n_tied else {},
        "n_flipped": read.read.n_flipped,
        "n_without_p": read.read.n_without_p,
        "n_truncated": found.rows.n_truncated,
        "findings": {kind: list(ids) for kind, ids in found.findings.items()},
        "p": dict(found.p),
        "length_correlation": found.length_correlation,
        "longer_wins": found.longer_wins,
        "median_tokens": dict(found.tokens),
        "rows": [
            {
                "id": row.id,
                "place": row.source.place or None,
                "p": row.p,
                "prompt": prompt.text,
                "answers": [[{"text": p.text, "how": p.how} for p in a] for a in answers],
            }
            for row, prompt, answers in rendered
        ],
    }


def _screen(model: str, read: ReadRows, found: Inspection, max_length: int) -> list[Any]:
    from prefkit.training.inspection import FINDINGS

    rows = found.rows
    lost = ", ".join(f"{n} {reason}" for reason, n in rows.dropped.items()) or "none"
    facts: list[tuple[str, object]] = [
        ("layout", f"{read.read.layout}: {(read.read.evidence or ('rows given in Python',))[0]}"),
        ("rows read", read.read.n_read),
        ("rows to train on", len(rows.rows)),
        ("dropped", lost),
        ("truncated", f"{rows.n_truncated}, to {max_length} tokens"),
        *([("answers left out", f"{read.read.n_tied} tied")] if read.read.n_tied else []),
        *([("sides swapped", f"{read.read.n_flipped} (p < 0.5)")] if read.read.n_flipped else []),
        *(
            [("rows without p", f"{read.read.n_without_p}, taken as certain")]
            if read.read.n_without_p
            else []
        ),
        *((f"median tokens, {name}", f"{n:g}") for name, n in found.tokens.items()),
        *_length_facts(found),
    ]
    blocks: list[Any] = [facts_table(f"As {model} would be trained", facts)]
    blocks.append(rows_table("p = P(first answer wins)", ("p", "rows"), list(found.p.items())))
    places = {row.id: row.place for row in read.rows}
    for kind, ids in found.findings.items():
        blocks.append(Text.assemble((f"{kind}: {len(ids)} rows", "bold"), f" ({FINDINGS[kind]})"))
        blocks += [Text(plain(f"  {row_id}  {places.get(row_id, '')}")) for row_id in ids[:SHOWN]]
        if len(ids) > SHOWN:
            blocks.append(Text(f"  and {len(ids) - SHOWN} more (--json lists all)"))
    if not found.findings:
        blocks.append(Text("Nothing odd was found."))
    return blocks


def _length_facts(found: Inspection) -> list[tuple[str, object]]:
    if found.length_correlation is None:
        return []
    wins = "" if found.longer_wins is None else f"; the longer answer wins {found.longer_wins:.0%}"
    return [("length and label", f"correlation {found.length_correlation:+.2f}{wins}")]


def _row_text(row: Row, prompt: Piece, answers: Sequence[Sequence[Piece]]) -> Group:
    """A row with its trained tokens in colour, or between marks where there is none."""
    names = ("chosen", "rejected") if row.target == "pair" else ()
    place = f", {row.source.place}" if row.source.place else ""
    cut = ", cut to max_length" if row.truncated else ""
    title = plain(f"row {row.id}{place}, p = {row.p:g}{cut}")
    lines = [Text(title, style="bold"), _piece(prompt)]
    for index, answer in enumerate(answers):
        name = names[index] if names else f"answer {index + 1}"
        lines.append(Text.assemble((f"{name}: ", "bold"), *map(_piece, answer)))
    return Group(*lines, Text(""))


def _piece(piece: Piece) -> Text:
    text = plain(piece.text)
    if piece.how == "trained" and not stdout.is_terminal:
        text = f"{MARKS[0]}{text}{MARKS[1]}"
    return Text(text, style=STYLES[piece.how])
