"""The next open task of a lane: found in order, and taken by the statement that finds it.

A task is taken by raising the counter on its own row, under that row's lock, where
``k > n_done + n_leased`` holds; nothing is ever counted over ``leases``, which would serve a task
too often. Each rater has a place in each lane: every task that they had is behind it.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from prefkit.store.chain import RaterRow
from prefkit.store.quick import Quick

START = (-1, "")
AHEAD = 16  # open tasks after a rater's place; the next one is nearly always among them
WINDOW = 250  # tasks looked at in one step by a rater who had all of those
_STEPS = 16
_LAST = (1 << 63) - 1

_OPEN = "FROM tasks {index} WHERE lane = :lane AND k > n_done + n_leased"
_AFTER = f"{_OPEN} AND (priority, id) > (:p, :i) ORDER BY priority, id"
# OFFSET 0: looks each row up in the index, where a join would read all that the rater ever did.
# The last one: a pair is not served to who decides it (leasing.case_id).
_NEW_TO_RATER = """
   AND NOT EXISTS (SELECT 1 FROM standing s WHERE s.task_id = t.id AND s.rater = :r {off})
   AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.task_id = t.id AND l.rater = :r {off})
   AND NOT EXISTS (SELECT 1 FROM tasks j WHERE j.id = t.id || '-' || :r {off})"""
_NEAR = (
    f"FROM (SELECT id, priority {_AFTER} LIMIT :n) w CROSS JOIN tasks t "
    f"WHERE t.id = w.id AND t.k > t.n_done + t.n_leased {_NEW_TO_RATER} "
    "ORDER BY w.priority, w.id LIMIT 1"
)
_FAR = (
    "FROM tasks t {index} WHERE t.lane = :lane AND t.k > t.n_done + t.n_leased "
    "AND (t.priority, t.id) > (:p, :i) AND (t.priority, t.id) <= (:end_p, :end_i) "
    f"{_NEW_TO_RATER} ORDER BY t.priority, t.id LIMIT 1"
)
# INDEXED BY: a lost index is an error and not a scan of 100,000 rows.
_INDEX = {"sqlite": "INDEXED BY tasks_open", "postgresql": ""}
_GIVEN = (
    "RETURNING {of}.id AS id, {of}.comparison_id AS comparison_id, {of}.kind AS kind, {of}.k AS k, "
    "{of}.priority AS priority, "
    "EXISTS (SELECT 1 FROM served s WHERE s.task_id = {of}.id AND s.rater = :r) AS had"
)


def _taking(found: str) -> Quick:
    """The statement that takes the task that ``found`` finds."""
    in_sqlite = found.format(index=_INDEX["sqlite"], off="")
    elsewhere = found.format(index=_INDEX["postgresql"], off="OFFSET 0")
    # NO KEY: a vote's foreign key takes KEY SHARE, which FOR UPDATE would take for a lock to skip.
    return Quick(
        f"UPDATE tasks SET n_leased = n_leased + 1 WHERE id = (SELECT t.id {in_sqlite}) "
        + _GIVEN.format(of="tasks"),
        f"WITH c AS (SELECT t.id {elsewhere} FOR NO KEY UPDATE OF t SKIP LOCKED) "
        "UPDATE tasks t SET n_leased = t.n_leased + 1 FROM c WHERE t.id = c.id "
        + _GIVEN.format(of="t"),
    )


def _on_each(sql: str) -> Quick:
    return Quick(*(sql.format(index=index) for index in _INDEX.values()))


_TAKE_NEAR, _TAKE_FAR = _taking(_NEAR), _taking(_FAR)
_BOUND_OF = _on_each(f"SELECT priority, id {_AFTER} LIMIT 1 OFFSET :skipped")
_END_OF = _on_each(f"SELECT priority, id {_OPEN} ORDER BY priority DESC, id DESC LIMIT 1")
_COMING_OF = _on_each(f"SELECT comparison_id {_AFTER} LIMIT :n")


def keep_to_the_order(row: RaterRow) -> None:
    """From the start again where tasks were added or put in another order since."""
    if row.epoch != row.order:
        row.epoch = row.order
        row.at = dict.fromkeys(row.at, START)


def find(connection: sa.Connection, row: RaterRow, lane: int) -> tuple[Any | None, bool]:
    """The next open task of a lane, taken; or None, and whether the end was not reached.

    had: whether the rater was shown it before. Where they had all of the next few, they are looked
    up one by one, WINDOW at a time.
    """
    p, i = row.at[lane]
    found = _TAKE_NEAR(connection, lane=lane, p=p, i=i, n=AHEAD, r=row.rater).first()
    if found is not None:
        row.at[lane] = (found.priority, found.id)
        return found, False
    for _ in range(_STEPS):
        p, i = row.at[lane]
        place: dict[str, Any] = {"lane": lane, "p": p, "i": i}
        bound: Any = _BOUND_OF(connection, **place, skipped=WINDOW - 1).first()
        end_p, end_i = (_LAST, "") if bound is None else (bound[0], bound[1])
        values = {**place, "end_p": end_p, "end_i": end_i, "r": row.rater}
        found = _TAKE_FAR(connection, **values).first()
        if found is not None:
            row.at[lane] = (found.priority, found.id)
            return found, False
        if bound is None:
            end: Any = _END_OF(connection, lane=lane).first()
            if end is not None and tuple(end) > row.at[lane]:
                row.at[lane] = (end[0], end[1])
            return None, False
        row.at[lane] = (end_p, end_i)
    return None, True


def after(connection: sa.Connection, row: RaterRow, lane: int, n: int) -> list[str]:
    """The comparisons of the next n open tasks of a lane; nothing is taken."""
    p, i = row.at[lane]
    return list(_COMING_OF(connection, lane=lane, p=p, i=i, n=n).scalars())
