"""``prefkit import``: pairs, and votes that other tools collected, into a workspace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefkit.cli.output import facts_table, finish
from prefkit.cli.source import MAP_HELP, read_map

if TYPE_CHECKING:
    from prefkit.annotation.settings import AnnotateSettings
    from prefkit.core.records import Vote
    from prefkit.formats.imports import Asked, Imported, Words
    from prefkit.workspace import Workspace

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
PAIRS = "pairs"
_BATCH = 500  # votes a transaction: the app goes on between two
_SHOWN = 5


@app.command(epilog="What each tool's export must hold: docs/import.md")
def import_(
    source: Annotated[
        str, typer.Argument(help="A file, a folder that datasets or Potato wrote, or a Hub id.")
    ],
    into: Annotated[
        Path | None,
        typer.Option(help="The workspace. Default: NAME.prefkit beside the file."),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", help="label-studio, argilla, potato or pairs. Default: seen from the rows."
        ),
    ] = None,
    votes: Annotated[
        Path | None, typer.Option(help="With pairs: prefkit's votes on them (Parquet, JSONL, CSV).")
    ] = None,
    mapping: Annotated[list[str] | None, typer.Option("--map", help=MAP_HELP)] = None,
    question: Annotated[
        str | None, typer.Option(help="The question that compares the two answers.")
    ] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option(
            help="What a word means, for example 'Response B wins=b' or '7=b:3' (strength 1 to 3); "
            "a is the row's first answer. Repeatable."
        ),
    ] = None,
    scale: Annotated[
        float, typer.Option(min=1, help="The end of a scale that runs from minus this to this.")
    ] = 3,
    rationale: Annotated[
        str | None, typer.Option(help="The question that asks for reasons.")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Potato's data file, where the texts are.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="What was asked, for rows that do not say it.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--source", help="What raters of this source are told apart by."),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of a Hub data set.")] = "train",
    revision: Annotated[str | None, typer.Option(help="Revision of a Hub data set.")] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave malformed rows out, each with its reason.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Bring pairs into a workspace, with the votes that another tool collected on them.

    Nothing is written before all has been read. The same file again adds nothing; one with more
    answers adds those. Raters are new persons of this source, under opaque ids.

    Example: prefkit import project-3.json --into my-project

    Example: prefkit import annotation_output --items data.jsonl --into my-project
    """
    from prefkit.formats.imports import Asked, Words
    from prefkit.formats.imports.words import parse_choices
    from prefkit.formats.rows import read_rows

    asked = Asked(
        mapping=read_map(mapping),
        question=question,
        rationale=rationale,
        prompt=prompt,
        items=None if items is None else read_rows(items.expanduser()),
        source=name,
        skip_bad=skip_bad,
    )
    words = Words(parse_choices(choice), scale=scale)
    kind, imported = _read(source, from_, votes, asked, words, split, revision)
    workspace = _workspace(source, into)
    value = _write(workspace, imported, made_from=Path(source).name)
    _finish(source, kind, workspace, imported, value, as_json=as_json)


def _read(
    source: str,
    kind: str | None,
    votes: Path | None,
    asked: Asked,
    words: Words,
    split: str,
    revision: str | None,
) -> tuple[str, Imported]:
    """What kind of export it is, and all that is in it."""
    from prefkit.cli.pairs_in import origin_of, rows_at
    from prefkit.core.errors import ConfigError
    from prefkit.formats.imports import IMPORTS, format_of, import_rows
    from prefkit.formats.imports.potato import potato_folder

    if kind not in (None, PAIRS):
        IMPORTS.get(str(kind))  # an unknown word is said before anything is read
    folder = Path(source).expanduser()
    rows = potato_folder(folder) if kind != PAIRS and folder.is_dir() else None
    if rows is None:
        rows = rows_at(source, split=split, revision=revision)
    kind = kind or (PAIRS if votes is not None else format_of(rows) or PAIRS)
    _check_words(kind, asked)
    if kind != PAIRS:
        if votes is not None:
            raise ConfigError(
                f"--votes {votes}: a {kind} export holds its own", hint="leave it out"
            )
        return kind, import_rows(rows, kind, asked, words)
    return kind, _of_pairs(rows, votes, asked, origin_of(source))


def _check_words(kind: str, asked: Asked) -> None:
    """ConfigError for an option that would change nothing in this kind of export."""
    from prefkit.core.errors import ConfigError

    if asked.items is not None and kind != "potato":
        raise ConfigError("--items: only Potato keeps its texts apart", hint="leave it out")
    for name, given in (("question", asked.question), ("rationale", asked.rationale)):
        if given is not None and kind == PAIRS:
            raise ConfigError(
                f"--{name} {given}: these rows are pairs without votes",
                hint="leave it out, or say whose export it is: --from argilla",
            )


def _of_pairs(rows: Any, votes: Path | None, asked: Asked, origin: str) -> Imported:
    """Plain pairs, and prefkit's own votes on them."""
    from prefkit.formats.comparisons import read_comparisons_of
    from prefkit.formats.imports import Imported
    from prefkit.formats.votes import load_votes

    comparisons, read = read_comparisons_of(rows, origin=origin, mapping=asked.mapping)
    given = [] if votes is None else load_votes(votes)
    known = {comparison.id for comparison in comparisons}
    kept, out = _own_votes(given, known, str(votes), rows.source, skip_bad=asked.skip_bad)
    counts = {
        "n_rows": read.pop("n_read"),
        "n_comparisons": len(comparisons),
        "n_repeated_pairs": read.pop("n_repeated"),
        "n_rows_left_out": sum(n for name, n in read.items() if name != "n_comparisons"),
        "n_judgements": len(given),
        "n_votes": len(kept),
        "n_repeated_votes": 0,
        "n_judgements_left_out": len(out),
    }
    source = asked.source or (origin if votes is None else votes.name)
    return Imported(comparisons, kept, source, out, counts)


def _own_votes(
    given: Sequence[Vote], known: Set[str], place: str, pairs: str, *, skip_bad: bool
) -> tuple[list[Vote], list[tuple[str, str]]]:
    """prefkit's votes as votes on the label tasks of a new store; those left out, and why.

    There a rater's second vote on a task replaces the first. So a hidden repeat, which has a task
    of its own where it comes from, stays out; and votes that name no rater are not taken for
    those of one. Raises DataError.
    """
    from prefkit.core.errors import DataError
    from prefkit.formats.votes import NO_RATER

    strange = [vote for vote in given if vote.comparison_id not in known]
    if strange and not skip_bad:
        raise DataError(
            f"{place}: {len(strange)} of {len(given)} votes are on comparisons that "
            f"{pairs} does not hold, for example {strange[0].comparison_id}",
            hint="is it the right file? --skip-bad leaves them out",
        )
    here = [vote for vote in given if vote.comparison_id in known]
    of_nobody = Counter(vote.comparison_id for vote in here if vote.rater == NO_RATER)
    for comparison_id, n in of_nobody.most_common(1):
        if n > 1:
            raise DataError(
                f"{place}: {n} votes on comparison {comparison_id} name no rater",
                hint="add a column rater: of one rater only the last vote on a pair stands",
            )
    labelled = {(v.rater, v.comparison_id) for v in here if v.task_id == v.comparison_id}
    kept: list[Vote] = []
    out = [(f"{place}: vote {vote.id}", "its comparison is not here") for vote in strange]
    for vote in here:
        of_label = vote.task_id == vote.comparison_id
        if not of_label and (vote.rater, vote.comparison_id) in labelled:
            out.append((f"{place}: vote {vote.id}", "its rater voted on the pair before"))
        else:
            kept.append(replace(vote, task_id=vote.comparison_id))
    return kept, out


def _workspace(source: str, into: Path | None) -> Workspace:
    from prefkit.cli.pairs_in import check_folder, folder_for
    from prefkit.workspace import Workspace

    folder = folder_for(source) if into is None else into.expanduser().resolve()
    check_folder(folder, source)
    return Workspace(folder)


def _write(workspace: Workspace, imported: Imported, *, made_from: str) -> dict[str, int]:
    """Comparisons, then votes, into the store; how many of each were new, how many came late."""
    from prefkit.cli.pairs_in import add_pairs

    n_added, settings = add_pairs(
        workspace, imported.comparisons, verb="import", made_from=made_from
    )
    n_votes, n_late = _write_votes(workspace, settings, imported)
    return {"n_added": n_added, "n_votes_added": n_votes, "n_late": n_late}


def _write_votes(
    workspace: Workspace, settings: AnnotateSettings, imported: Imported
) -> tuple[int, int]:
    """Votes under ids of this store; how many were new, and how many of all are late."""
    from prefkit.store import VoteStore
    from prefkit.store.tables import storable

    if not imported.votes:
        return 0, 0
    with VoteStore.open(settings.store or workspace.store_path, home=workspace.path) as store:
        people = {vote.rater for vote in imported.votes if vote.rater_kind == "human"}
        ids = {
            name: store.rater_id(storable(f"{name} ({imported.source})")) for name in sorted(people)
        }
        mine: list[Vote] = [
            replace(vote, rater=ids.get(vote.rater, vote.rater)) for vote in imported.votes
        ]
        n_new = sum(
            store.add_votes(mine[start : start + _BATCH]) for start in range(0, len(mine), _BATCH)
        )
        given = {vote.id for vote in mine}
        n_late = sum(vote.late for vote in store.votes() if vote.id in given)
    return n_new, n_late


def _finish(
    source: str,
    kind: str,
    workspace: Workspace,
    imported: Imported,
    written: dict[str, int],
    *,
    as_json: bool,
) -> None:
    from prefkit.formats.imports.build import reasons

    counts = {**imported.counts, **written}
    why = reasons(imported.left_out)
    shown = [(f"  {place}", reason) for place, reason in imported.left_out[:_SHOWN]]
    facts: list[tuple[str, object]] = [
        ("read as", kind),
        ("rows", counts["n_rows"]),
        ("comparisons", f"{counts['n_comparisons']} ({counts['n_added']} new)"),
        ("votes", f"{counts['n_votes']} ({counts['n_votes_added']} new)"),
        *([("  beyond k, kept as late", counts["n_late"])] if counts["n_late"] else []),
        *((f"left out: {reason}", n) for reason, n in why.items()),
        *shown,
        *(
            [("  and more", len(imported.left_out) - _SHOWN)]
            if len(imported.left_out) > _SHOWN
            else []
        ),
        ("workspace", workspace.path),
    ]
    value = {
        **counts,
        "kind": kind,
        "source": imported.source,
        "workspace": str(workspace.path),
        "left_out": [{"place": place, "reason": reason} for place, reason in imported.left_out],
    }
    verb = "aggregate" if counts["n_votes"] else "annotate"
    finish(
        value,
        as_json=as_json,
        screen=[facts_table(f"Import of {source}", facts)],
        next_command=f"prefkit {verb} {quote(str(workspace.path))}",
    )
