"""Comparisons and their tasks into the store, and how many votes a task wants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from prefkit.core.records import Comparison
from prefkit.core.rng import derive_seed
from prefkit.formats.schema import to_row
from prefkit.store import chain
from prefkit.store.database import chunks, insert_new
from prefkit.store.leasing import IN_ORDER, reset_places
from prefkit.store.tables import comparisons, tasks


def add(connection: sa.Connection, new: Mapping[str, Comparison], k: int, most: int | None) -> int:
    """Add comparisons by id, each with a label task; how many were new.

    Of those that are there only k is changed, as ``want`` does.
    """
    known: set[str] = set()
    for chunk in chunks(new):
        query = sa.select(tasks.c.id).where(tasks.c.id.in_(chunk))
        known.update(connection.scalars(query))
    fresh = [comparison for comparison in new.values() if comparison.id not in known]
    if fresh:
        connection.execute(insert_new(connection, comparisons), [comparison_row(c) for c in fresh])
        connection.execute(insert_new(connection, tasks), [_task_row(c, k) for c in fresh])
    changed = 0
    for chunk in chunks(sorted(known)):
        changed += _set_k(connection, k, most, tasks.c.id.in_(chunk))
    _note_k(connection, k, changed)
    if fresh or changed:
        reset_places(connection)
    return len(fresh)


def want(connection: sa.Connection, k: int, most: int | None) -> int:
    """Let every label task want ``k`` votes; how many wanted another number.

    most: with adaptive overlap a task may want more than k, up to this; such a one is left alone.
    """
    changed = _set_k(connection, k, most, sa.true())
    _note_k(connection, k, changed)
    if changed:
        reset_places(connection)
    return changed


def _set_k(
    connection: sa.Connection, k: int, most: int | None, which: sa.ColumnElement[bool]
) -> int:
    is_other = tasks.c.k != k if most is None else (tasks.c.k < k) | (tasks.c.k > max(k, most))
    return connection.execute(
        sa.update(tasks).where(tasks.c.kind == "label", is_other, which).values(k=k)
    ).rowcount


def _note_k(connection: sa.Connection, k: int, n_tasks: int) -> None:
    """k is configuration and not replayed; its changes explain why a vote was late."""
    if n_tasks:
        chain.note(connection, "k", {"k": k, "n_tasks": n_tasks}, datetime.now(UTC))


def comparison_row(comparison: Comparison) -> dict[str, Any]:
    """The row of a comparison."""
    row = to_row(comparison)
    documents = {name: json.dumps(row[name], sort_keys=True) for name in ("prompt", "a", "b")}
    return {"id": comparison.id, "origin": comparison.origin, **documents}


def _task_row(comparison: Comparison, k: int) -> dict[str, Any]:
    place = derive_seed("task", comparison.id)
    return {
        "id": comparison.id,
        "comparison_id": comparison.id,
        "kind": "label",
        "k": k,
        "n_done": 0,
        "n_leased": 0,
        "shuffle": place,
        "lane": IN_ORDER,
        "priority": place,
    }
