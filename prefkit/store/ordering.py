"""In which order tasks come, and which of them are gold: set from outside, never by a vote."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from prefkit.core.records import Comparison, TaskKind
from prefkit.core.rng import derive_seed
from prefkit.store import chain, intake, ledger
from prefkit.store.database import insert_new
from prefkit.store.leasing import GOLD, Slot, gold_id, reset_places
from prefkit.store.tables import comparisons, standing, tasks

UNLIMITED = (1 << 31) - 1  # the k of a gold task: everybody may be asked


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """A task and what its order can go by.

    shuffle: its place in the common shuffle, in [0, 2**31). choices: those that count on it now.
    tags: the prompt's, empty where they were not asked for. gold: the better slot, where known.
    """

    id: str
    comparison_id: str
    kind: TaskKind
    origin: str
    tags: Mapping[str, str]
    shuffle: int
    lane: int
    priority: int
    gold: Slot | None
    choices: Sequence[str]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task stands: its lane, and its number in it (lower is earlier)."""

    id: str
    lane: int
    priority: int


_FACTS = sa.select(tasks, comparisons.c.origin).join(
    comparisons, comparisons.c.id == tasks.c.comparison_id
)
_CHOICES = sa.select(standing.c.task_id, standing.c.choice).where(standing.c.counted)
_MOVE = (
    sa.update(tasks)
    .where(tasks.c.id == sa.bindparam("of"))
    .values(lane=sa.bindparam("to_lane"), priority=sa.bindparam("to_priority"))
)


def facts(connection: sa.Connection, *, with_tags: bool) -> list[TaskFacts]:
    """Every task, by id."""
    choices: dict[str, list[str]] = {}
    for row in connection.execute(_CHOICES):
        choices.setdefault(row.task_id, []).append(row.choice)
    query = _FACTS.add_columns(comparisons.c.prompt) if with_tags else _FACTS
    return [
        TaskFacts(
            row.id,
            row.comparison_id,
            row.kind,
            row.origin,
            json.loads(row.prompt).get("tags", {}) if with_tags else {},
            row.shuffle,
            row.lane,
            row.priority,
            row.gold,
            tuple(choices.get(row.id, ())),
        )
        for row in connection.execute(query.order_by(tasks.c.id))
    ]


def move(connection: sa.Connection, places: Sequence[Place]) -> None:
    """Put tasks in their places; ``finish_order`` comes after the last of them."""
    connection.execute(
        _MOVE, [{"of": p.id, "to_lane": p.lane, "to_priority": p.priority} for p in places]
    )


def finish_order(connection: sa.Connection, facts: Mapping[str, Any]) -> None:
    """Let every rater begin at the start of the new order, and note it in the chain ``system``."""
    chain.note(connection, "order", facts, datetime.now(UTC))
    reset_places(connection)


def add_gold(connection: sa.Connection, items: Iterable[tuple[Comparison, Slot]]) -> int:
    """Add gold items that are not there; how many were new."""
    new = 0
    for comparison, better in items:
        row = intake.comparison_row(comparison)
        connection.execute(insert_new(connection, comparisons), row)
        task = {
            "id": gold_id(comparison.id, better),
            "comparison_id": comparison.id,
            "kind": "gold",
            "k": UNLIMITED,
            "n_done": 0,
            "n_leased": 0,
            "shuffle": derive_seed("gold", comparison.id),
            "lane": GOLD,
            "priority": derive_seed("gold", comparison.id),
            "gold": better,
        }
        known = sa.select(tasks.c.id).where(tasks.c.id == task["id"])
        if connection.scalar(known) is None:
            connection.execute(sa.insert(tasks), task)
            new += 1
    if new:
        chain.note(connection, "gold", {"n_items": new}, datetime.now(UTC))
        reset_places(connection)
    return new


def is_at_the_back(priority: int) -> bool:
    """Whether a task was opened again, and stands behind those that never were full."""
    return priority >= ledger.BACK
