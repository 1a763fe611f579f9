"""The store checked against itself: what follows from the votes is counted again."""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa

from prefkit.core.errors import StoreError
from prefkit.store import ledger
from prefkit.store.tables import comparisons, standing, tasks, votes


def faults(connection: sa.Connection) -> list[str]:
    """One line a fault; an empty list for a sound store."""
    found: list[str] = []
    if connection.dialect.name == "sqlite":
        lines = connection.exec_driver_sql("PRAGMA integrity_check").scalars()
        found += [f"file: {line}" for line in lines if line != "ok"]
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        found += [
            f"{row[0]}: row {row[1]} points at a row of {row[2]} that is gone" for row in broken
        ]
    found += _text_faults(connection)
    stands = _replay(connection, found)
    found += _standing_faults(connection, stands)
    found += _counter_faults(connection, stands)
    return found


def _text_faults(connection: sa.Connection) -> list[str]:
    """The file's own check looks at its pages, not at what is written on them."""
    found: list[str] = []
    for row in connection.execute(sa.select(comparisons).order_by(comparisons.c.seq)).mappings():
        try:
            ledger.comparison_of(row)
        except StoreError as error:
            found.append(error.message)
    return found


def _replay(connection: sa.Connection, found: list[str]) -> dict[ledger.Key, ledger.Stand]:
    stands: dict[ledger.Key, ledger.Stand] = {}
    seen: set[str] = set()
    for row in connection.execute(sa.select(votes).order_by(votes.c.seq)).mappings():
        vote = ledger.vote_of(row)
        if vote.replaces is not None and vote.replaces not in seen:
            found.append(f"vote {vote.id} replaces {vote.replaces}, which is not before it")
        seen.add(vote.id)
        ledger.stand(stands, vote)
    return stands


def _standing_faults(
    connection: sa.Connection, stands: dict[ledger.Key, ledger.Stand]
) -> list[str]:
    stored = {
        (row.task_id, row.rater): ledger.Stand(row.vote_id, row.choice, row.counted)
        for row in connection.execute(sa.select(standing))
    }
    return [
        f"task {task_id}, rater {rater}: what stands is not what the votes say"
        for task_id, rater in sorted(stored.keys() | stands.keys())
        if stored.get((task_id, rater)) != stands.get((task_id, rater))
    ]


def _counter_faults(connection: sa.Connection, stands: dict[ledger.Key, ledger.Stand]) -> list[str]:
    counted = Counter(task_id for (task_id, _), last in stands.items() if last.counted)
    return [
        f"task {row.id}: {row.n_done} votes noted, {counted[row.id]} counted"
        for row in connection.execute(sa.select(tasks.c.id, tasks.c.n_done).order_by(tasks.c.id))
        if row.n_done != counted[row.id]
    ]
