"""Rows of pairs and judgements on them → comparisons and votes.

A vote's id follows from what was said, by whom, of which pair, and when: the same export imported
again adds nothing, and an answer that was changed in the meantime is a new vote, which replaces
the old one in the store.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from prefkit.core.errors import DataError
from prefkit.core.records import Choice, Comparison, Vote
from prefkit.formats.comparisons import Pair, pair_reader
from prefkit.formats.detect import resolve_columns
from prefkit.formats.imports.source import Asked, Judgement, Source
from prefkit.formats.imports.words import FIRST, SECOND, Words
from prefkit.formats.layouts import PAIRS, Unusable
from prefkit.formats.rows import Rows
from prefkit.formats.values import is_missing

SHOWN = 5
_NAMESPACE = uuid.UUID("5b0f5c6e-8d0b-5e0c-9a43-2f6c1f0d7c11")
Fault = tuple[str, str]  # place, what is wrong there
_NEVER = datetime.fromtimestamp(0, UTC)
# Names that two answers have in the templates of other tools, besides our own.
_PAIRS = (*PAIRS, ("answer1", "answer2"), ("text1", "text2"), ("text_1", "text_2"))


@dataclass(frozen=True, slots=True)
class Imported:
    """What an export holds. votes: by their time; rater is the source's name of the person.

    source: the name of the source. left_out: place and reason of each row and each judgement that
    is not among them. counts: n_rows = n_comparisons + n_repeated_pairs + n_rows_left_out;
    n_judgements = n_votes + n_repeated_votes + n_judgements_left_out.
    """

    comparisons: list[Comparison]
    votes: list[Vote]
    source: str
    left_out: list[Fault]
    counts: dict[str, int]


def build(source: Source, asked: Asked, words: Words) -> Imported:
    """The records of a source; DataError names what is malformed, at most five of it."""
    if not source.rows.values and source.faults:
        raise DataError(_listed(source.faults), hint="there is nothing else in the file")
    if (
        asked.rationale is not None
        and source.judgements
        and not any(judgement.rationale for judgement in source.judgements)
    ):
        raise DataError(
            f"{source.rows.source}: no text under --rationale {asked.rationale}",
            hint="is that its name? leave it out where nobody gave reasons",
        )
    rows = _with_prompt(source.rows, asked)
    origin = asked.source or source.name
    pairs, rows_out, bad_rows = _pairs(source, rows, origin, asked)
    votes, votes_out, wrong = _votes(source, pairs, words.named(_names(rows, asked)), origin)
    faults = [*bad_rows, *source.faults, *wrong]
    if faults and not asked.skip_bad:
        raise DataError(_listed(faults), hint=_hint(wrong))
    if not pairs:
        raise DataError(
            f"{rows.source}: no pair to import\n{_listed([*rows_out, *faults])}".rstrip("\n")
        )
    found = {pair.comparison.id: pair.comparison for pair in reversed(pairs.values())}
    once = {vote.id: vote for vote in sorted(votes, key=lambda vote: vote.at)}
    judgements_out = [*source.left_out, *votes_out, *source.faults, *wrong]
    counts = {
        "n_rows": len(rows.values),
        "n_comparisons": len(found),
        "n_repeated_pairs": len(pairs) - len(found),
        "n_rows_left_out": len(rows_out) + len(bad_rows),
        "n_judgements": len(votes) + len(judgements_out),
        "n_votes": len(once),
        "n_repeated_votes": len(votes) - len(once),
        "n_judgements_left_out": len(judgements_out),
    }
    left_out = [*rows_out, *bad_rows, *judgements_out]
    in_order = list(reversed(found.values()))
    return Imported(in_order, list(once.values()), origin, left_out, counts)


def _pairs(
    source: Source, rows: Rows, origin: str, asked: Asked
) -> tuple[dict[int, Pair], list[Fault], list[Fault]]:
    """The pairs by row, the rows that are no pair, and those that are malformed."""
    read = pair_reader(rows, origin=origin, mapping=asked.mapping, pairs=_PAIRS)
    pairs: dict[int, Pair] = {}
    rows_out: list[Fault] = []
    bad = [(rows.place(index), what) for index, what in source.bad_rows.items()]
    for index, row in enumerate(rows.values):
        if index in source.bad_rows:
            continue
        try:
            pairs[index] = read(row)
        except Unusable as reason:
            rows_out.append((rows.place(index), str(reason)))
        except (ValueError, KeyError, TypeError) as error:
            bad.append((rows.place(index), str(error)))
    return pairs, rows_out, bad


def reasons(left_out: Sequence[tuple[str, str]]) -> dict[str, int]:
    """How many were left out for which reason."""
    return dict(Counter(reason for _, reason in left_out).most_common())


def _with_prompt(rows: Rows, asked: Asked) -> Rows:
    """The rows, with ``asked.prompt`` where they do not say what was asked."""
    if asked.prompt is None:
        return rows
    theirs = resolve_columns(rows, asked.mapping).get("prompt", "prompt")
    asked_of_all = {theirs: asked.prompt}
    values = [
        {**row, **asked_of_all} if is_missing(row.get(theirs)) or row[theirs] == "" else row
        for row in rows.values
    ]
    return replace(rows, values=values, table=None)


def _names(rows: Rows, asked: Asked) -> tuple[str, str]:
    """What the two answers are called in the rows."""
    columns = resolve_columns(rows, asked.mapping)
    pair = next((pair for pair in _PAIRS if set(pair) <= columns.keys()), ("chosen", "rejected"))
    return columns.get(pair[0], pair[0]), columns.get(pair[1], pair[1])


def _votes(
    source: Source, pairs: dict[int, Pair], words: Words, origin: str
) -> tuple[list[Vote], list[Fault], list[Fault]]:
    """The votes, the judgements on rows that are no pair, and those that cannot be read."""
    votes: list[Vote] = []
    left_out: list[Fault] = []
    faults: list[Fault] = []
    for judgement in source.judgements:
        pair = pairs.get(judgement.row)
        if pair is None:
            left_out.append((judgement.place, "its row is no pair"))
            continue
        try:
            votes.append(_vote(judgement, pair, words, origin))
        except ValueError as error:
            faults.append((judgement.place, str(error)))
    return votes, left_out, faults


def _vote(judgement: Judgement, pair: Pair, words: Words, origin: str) -> Vote:
    choice: Choice = "skip"
    strength: int | None = None
    if judgement.said is not None:
        said = words.meaning(judgement.said)
        choice, strength = said.choice, said.strength
    if choice == SECOND:
        choice = SECOND if pair.first == FIRST else FIRST
    elif choice == FIRST:
        choice = pair.first
    at = judgement.at or _NEVER
    comparison = pair.comparison.id
    said_of_it = [
        origin, judgement.rater, comparison, choice, strength, at.isoformat(), judgement.rationale,
    ]  # fmt: skip
    return Vote(
        # In ASCII: a name may hold half of a surrogate pair.
        id=str(uuid.uuid5(_NAMESPACE, json.dumps(said_of_it))),
        task_id=comparison,
        comparison_id=comparison,
        rater=judgement.rater,
        rater_kind="human",
        choice=choice,
        at=at,
        strength=strength,
        active_ms=judgement.active_ms,
        rationale=judgement.rationale,
    )


def _listed(faults: Sequence[Fault]) -> str:
    more = len(faults) - SHOWN
    lines = [f"{place}: {what}" for place, what in faults[:SHOWN]]
    return "\n".join([*lines, *([f"and {more} more"] if more > 0 else [])])


def _hint(wrong: Sequence[Fault]) -> str:
    if wrong:
        return (
            "say what a word means: --choice 'THEIRS=a' (a is the row's first answer; or b, tie, "
            "both_bad, invalid, skip); or leave these out: --skip-bad"
        )
    return "mend these rows, or leave them out: --skip-bad"
