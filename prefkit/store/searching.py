"""Search over everything in a store: prompts, answers, tags, models, origins, words, names, ids.

Texts of comparisons are kept as ASCII JSON, so what is looked for is written the same way, and
what is found is read and looked at once more: a match with a field's name is none. The store is
searched from the newest comparison back, a stretch at a time, and an answer that took its time
says where to go on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from prefkit.core.records import Comparison
from prefkit.store.database import Database, chunks
from prefkit.store.queries import PAGE, bounded
from prefkit.store.rows import comparison_of
from prefkit.store.tables import (
    comparisons,
    flags,
    storable,
    tasks,
    texts,
    users,
    votes,
)

SECONDS = 2.0
LONGEST = 200  # characters
_STRETCH = 1000  # comparisons
_AROUND = 60  # characters shown on either side of a match
_ESCAPE = "!"  # not the backslash, which JSON is full of
_MOST_WORDS = 5000
_END = 1 << 62


@dataclass(frozen=True, slots=True)
class Hit:
    """A comparison that has what was looked for. places: where; excerpt: around the first."""

    seq: int
    comparison_id: str
    origin: str
    places: tuple[str, ...]
    excerpt: str


@dataclass(frozen=True, slots=True)
class Found:
    """A page of hits, newest first. raters: (id, name) of people of that name or id, on the first
    page. next: where to go on; None at the end of the store."""

    hits: tuple[Hit, ...]
    raters: tuple[tuple[str, str | None], ...]
    next: int | None


def search(
    database: Database,
    text: str,
    *,
    before: int | None = None,
    limit: int = PAGE,
    seconds: float = SECONDS,
) -> Found:
    """Where ``text`` is, whatever its case. before: ``next`` of the page before.

    Fewer than ``limit`` hits with a ``next`` mean that the time was up.
    """
    wanted = text.strip()[:LONGEST]
    if not wanted:
        return Found((), (), None)
    until = time.monotonic() + seconds
    hits: list[Hit] = []
    with bounded(database) as connection:
        by_words = _by_words(connection, wanted)
        raters = _raters(connection, wanted) if before is None else ()
        top = connection.scalar(sa.select(sa.func.max(comparisons.c.seq))) or 0
        at = min(_END if before is None else before, top + 1)
        while at > 0:
            for hit in _stretch(connection, wanted, at, by_words):
                hits.append(hit)
                if len(hits) == limit:
                    return Found(tuple(hits), raters, hit.seq)
            at -= _STRETCH
            if time.monotonic() > until and at > 0:
                return Found(tuple(hits), raters, at)
    return Found(tuple(hits), raters, None)


def _stretch(
    connection: sa.Connection, wanted: str, at: int, by_words: dict[int, tuple[str, str]]
) -> Iterator[Hit]:
    """The hits among the _STRETCH comparisons before row ``at``, newest first."""
    seq = comparisons.c.seq
    here = (seq < at) & (seq >= at - _STRETCH)
    columns = (comparisons.c.prompt, comparisons.c.a, comparisons.c.b)
    likely = [_like(connection, column, form) for column in columns for form in _as_json(wanted)]
    likely += [_like(connection, comparisons.c[name], wanted) for name in ("origin", "id")]
    noted = [number for number in by_words if at - _STRETCH <= number < at]
    likely += [seq.in_(chunk) for chunk in chunks(noted)]
    query = sa.select(comparisons).where(here, sa.or_(*likely)).order_by(seq.desc())
    for row in connection.execute(query).mappings().all():
        comparison = comparison_of(row)
        places = [(name, text) for name, text in _texts(comparison) if _has(text, wanted)]
        if row["seq"] in by_words:
            places.append(by_words[row["seq"]])
        if places:
            names = tuple(dict.fromkeys(name for name, _ in places))
            shown = _excerpt(places[0][1], wanted)
            yield Hit(row["seq"], comparison.id, comparison.origin, names, shown)


def _texts(comparison: Comparison) -> Iterator[tuple[str, str]]:
    yield "prompt", comparison.prompt.text
    yield "answer a", comparison.a.text
    yield "answer b", comparison.b.text
    for name, value in comparison.prompt.tags.items():
        yield "tag", f"{name}: {value}"
    yield "model", comparison.a.model
    yield "model", comparison.b.model
    yield "origin", comparison.origin
    yield "id", comparison.id
    yield "id", comparison.prompt.id
    for side in (comparison.a, comparison.b):
        yield "id", side.id


def _by_words(connection: sa.Connection, wanted: str) -> dict[int, tuple[str, str]]:
    """Comparison's row → where and what a person wrote on it that matches, or its vote's id."""
    written = (
        sa.select(comparisons.c.seq, texts.c.field, texts.c.text)
        .select_from(texts)
        .join(votes, votes.c.id == texts.c.vote_id)
        .join(comparisons, comparisons.c.id == votes.c.comparison_id)
        .where(_like(connection, texts.c.text, wanted))
        .limit(_MOST_WORDS)
    )
    found = {row.seq: (str(row.field), str(row.text)) for row in connection.execute(written)}
    flagged = (
        sa.select(comparisons.c.seq, texts.c.text)
        .select_from(texts)
        .join(flags, flags.c.note_id == texts.c.vote_id)
        .join(tasks, tasks.c.id == flags.c.task_id)
        .join(comparisons, comparisons.c.id == tasks.c.comparison_id)
        .where(_like(connection, texts.c.text, wanted))
        .limit(_MOST_WORDS)
    )
    found |= {row.seq: ("note", str(row.text)) for row in connection.execute(flagged)}
    by_id = (
        sa.select(comparisons.c.seq, votes.c.id)
        .join(votes, votes.c.comparison_id == comparisons.c.id)
        .where(votes.c.id == storable(wanted))
    )
    found |= {row.seq: ("vote id", row.id) for row in connection.execute(by_id)}
    by_task = (
        sa.select(comparisons.c.seq, tasks.c.id)
        .join(tasks, tasks.c.comparison_id == comparisons.c.id)
        .where(tasks.c.id == storable(wanted), tasks.c.id != comparisons.c.id)
    )
    return {row.seq: ("task id", row.id) for row in connection.execute(by_task)} | found


def _raters(connection: sa.Connection, wanted: str) -> tuple[tuple[str, str | None], ...]:
    named = _like(connection, users.c.name, wanted) | (users.c.id == storable(wanted))
    query = sa.select(users.c.id, users.c.name).where(named).order_by(users.c.id).limit(PAGE)
    return tuple((row.id, row.name) for row in connection.execute(query))


def _like(connection: sa.Connection, column: sa.Column[str], text: str) -> sa.ColumnElement[bool]:
    """Whether ``text`` is in the column, as it stands; SQLite's LIKE takes no note of case."""
    pattern = storable(text)
    for special in (_ESCAPE, "%", "_"):
        pattern = pattern.replace(special, _ESCAPE + special)
    if connection.dialect.name == "sqlite":
        return column.like(f"%{pattern}%", escape=_ESCAPE)
    return column.ilike(f"%{pattern}%", escape=_ESCAPE)


def _as_json(text: str) -> set[str]:
    """``text`` as it stands in JSON; in several cases where it has letters beyond ASCII."""
    cases = {text} if text.isascii() else {text, text.lower(), text.upper(), text.capitalize()}
    return {json.dumps(case)[1:-1] for case in cases}


def _has(text: str, wanted: str) -> bool:
    return wanted.casefold() in text.casefold()


def _excerpt(text: str, wanted: str) -> str:
    """The match with what stands around it, on one line."""
    at = max(0, text.casefold().find(wanted.casefold()))
    start, end = max(0, at - _AROUND), at + len(wanted) + _AROUND
    shown = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{shown}{'…' if end < len(text) else ''}"
