"""The store checked against itself: file, texts, tasks, chains, signed heads, words, every view."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from prefkit.core.errors import StoreError
from prefkit.core.records import Comparison, Completion, Prompt
from prefkit.store import chain, ledger, replaying
from prefkit.store.chain import SYSTEM, Event
from prefkit.store.heads import HeadCheck, SigningKey, check_heads
from prefkit.store.leasing import case_id, gold_id, repeat_id
from prefkit.store.rows import WORDS, comparison_of, text_digest
from prefkit.store.tables import comparisons, raters, tasks, texts

_WORDS = (*WORDS, "note")
_ROWS = 1000  # fetched at a time


@dataclass(frozen=True, slots=True)
class Examined:
    """What a check found. faults: one line each, none for a sound store.

    n_checked: heads whose signature was checked, of n_heads; the others were signed under a key
    that is not here.
    """

    faults: list[str]
    n_events: int
    n_raters: int
    n_heads: int
    n_checked: int


@dataclass(slots=True)
class _Pass:
    """What one pass over the events gathers."""

    found: list[str]
    signed: HeadCheck
    views: ledger.Views = field(default_factory=ledger.Views)
    ends: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    words: dict[tuple[str, str], tuple[str, str]] = field(
        default_factory=dict[tuple[str, str], tuple[str, str]]
    )  # (event id, field) → (rater, digest)
    vote_ids: set[str] = field(default_factory=set[str])
    erased: set[str] = field(default_factory=set[str])
    n_events: int = 0


def examine(connection: sa.Connection, key: SigningKey | None) -> Examined:
    """Check everything that can be checked, in one transaction."""
    found: list[str] = []
    if connection.dialect.name == "sqlite":
        found += _file_faults(connection)
    found += _document_faults(connection)
    found += _task_faults(connection)
    signed = check_heads(connection, key, found)
    found += _signing_faults(connection, signed)
    seen = _Pass(found, signed)
    for event in replaying.all_events(connection):
        _check_link(seen, event)
        _take(seen, event)
    for (rater, n), (head, _) in sorted(seen.signed.named.items()):
        found.append(f"rater {rater}, event {n}: signed in head {head}, and gone")
    _check_words(connection, seen)
    found += replaying.differences(connection, seen.views)
    return Examined(
        faults=found,
        n_events=seen.n_events,
        n_raters=len(seen.ends.keys() - {SYSTEM}),
        n_heads=signed.n_heads,
        n_checked=signed.n_checked,
    )


def _file_faults(connection: sa.Connection) -> list[str]:
    lines = connection.exec_driver_sql("PRAGMA integrity_check").scalars()
    found = [f"file: {line}" for line in lines if line != "ok"]
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    return found + [
        f"{row[0]}: row {row[1]} points at a row of {row[2]} that is gone" for row in broken
    ]


def _document_faults(connection: sa.Connection) -> list[str]:
    """Texts that cannot be read, or are not those that the raters saw.

    A comparison's id follows from its texts, and events name the id: so neither a word nor the
    two slots can be changed under the votes.
    """
    found: list[str] = []
    query = sa.select(comparisons).order_by(comparisons.c.seq).execution_options(yield_per=_ROWS)
    for row in connection.execute(query).mappings():
        try:
            comparison = comparison_of(row)
        except StoreError as error:
            found.append(error.message)
            continue
        try:
            same = _has_its_id(comparison)
        except (TypeError, ValueError):  # a field of a kind that no id can be made of
            same = False
        if not same:
            found.append(f"comparison {comparison.id}: its texts were changed after it was added")
    return found


def _has_its_id(comparison: Comparison) -> bool:
    prompt = comparison.prompt
    asked = Prompt.make(prompt.messages, tools=prompt.tools)
    a, b = (
        Completion.make(
            asked.id,
            side.messages,
            side.model,
            sampling=side.sampling,
            seed=side.seed,
            sample_index=side.sample_index,
        )
        for side in (comparison.a, comparison.b)
    )
    given = (comparison.id, prompt.id, comparison.a.id, comparison.b.id)
    return a.id < b.id and given == (Comparison.make(asked, a, b).id, asked.id, a.id, b.id)


def _task_faults(connection: sa.Connection) -> list[str]:
    """Tasks whose comparison, kind or better slot is not what their id was made of."""
    columns = (tasks.c.id, tasks.c.comparison_id, tasks.c.kind, tasks.c.only_rater, tasks.c.gold)
    query = sa.select(*columns).order_by(tasks.c.id).execution_options(yield_per=_ROWS)
    return [
        f"task {row.id}: is not the task that was added"
        for row in connection.execute(query)
        if row.id != _task_id(row)
    ]


def _task_id(row: Any) -> str | None:
    of = row.comparison_id
    if row.kind == "label":
        return of
    if row.kind == "gold":
        return gold_id(of, row.gold)
    if row.only_rater is None:
        return None
    return (repeat_id if row.kind == "repeat" else case_id)(of, row.only_rater)


def _signing_faults(connection: sa.Connection, signed: HeadCheck) -> list[str]:
    """Raters whose chain was signed further than the heads say that are there."""
    named: dict[str, int] = {}
    for rater, n in signed.named:
        named[rater] = max(n, named.get(rater, 0))
    return [
        f"rater {row.rater}: was signed up to event {row.n_signed}, and the head is gone"
        for row in connection.execute(sa.select(raters).order_by(raters.c.rater))
        if row.n_signed > named.get(row.rater, 0)
    ]


def _check_link(seen: _Pass, event: Event) -> None:
    """Whether ``event`` follows from the one before; after a fault, go on from what is there."""
    n, head = seen.ends.get(event.rater, (0, chain.START))
    place = f"rater {event.rater}, event {event.n}"
    if event.n != n + 1:
        seen.found.append(
            f"{place}: comes after event {n}; "
            + ("something between is gone" if event.n > n else "the order was changed")
        )
    elif event.prev != head:
        seen.found.append(f"{place}: does not follow from the event before it")
    if event.hash != chain.event_hash(event):
        seen.found.append(f"{place}: was changed after it was written")
    by_head = seen.signed.named.pop((event.rater, event.n), None)
    if by_head is not None and by_head[1] != event.hash:
        seen.found.append(f"{place}: is not the event that head {by_head[0]} signed")
    seen.ends[event.rater] = (event.n, event.hash)


def _take(seen: _Pass, event: Event) -> None:
    seen.n_events += 1
    try:
        ledger.fold(seen.views, event)
        payload = ledger.payload_of(event)
    except ledger.UNREADABLE as error:
        seen.found.append(f"rater {event.rater}, event {event.n}: cannot be read: {error}")
        return
    vote = seen.views.votes.get(event.seq)
    if vote is not None:
        seen.vote_ids.add(vote.id)
        if vote.replaces is not None and vote.replaces not in seen.vote_ids:
            seen.found.append(f"vote {vote.id} replaces {vote.replaces}, which is not before it")
    for name in _WORDS:
        if name in payload:
            seen.words[event.id, name] = (event.rater, payload[name])
    if event.kind == "erased" and event.rater == SYSTEM and payload.get("texts"):
        seen.erased.add(str(payload.get("of")))


def _check_words(connection: sa.Connection, seen: _Pass) -> None:
    left = dict(seen.words)
    for row in connection.execute(sa.select(texts)):
        rater, digest = left.pop((row.vote_id, row.field), ("", ""))
        place = f"vote {row.vote_id}: its {row.field}"
        if (rater, digest) != (row.rater, _digest(row.salt, row.text)):
            seen.found.append(f"{place} is not what its event says")
    seen.found += [
        f"vote {event_id}: its {name} is gone"
        for (event_id, name), (rater, _) in left.items()
        if rater not in seen.erased
    ]


def _digest(salt: str, text: str) -> str | None:
    try:
        return text_digest(salt, text)
    except ValueError:  # a salt that is no longer hexadecimal
        return None
