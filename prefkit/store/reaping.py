"""Places given back: the leases of those who gave no sign of life in time."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prefkit.store import ledger
from prefkit.store.tables import AwareUtc, leases

AT_ONCE = 500  # leases that end in one transaction
_NOW: sa.BindParameter[Any] = sa.bindparam("now", type_=AwareUtc())
_DUE = sa.select(leases.c.token).where(leases.c.live, leases.c.expires_at < _NOW)
_GIVE_BACK = sa.text(
    "UPDATE tasks SET n_leased = n_leased - :n, priority = CASE "
    "WHEN n_done + n_leased >= k AND n_done + n_leased - :n < k THEN :back ELSE priority END "
    "WHERE id = :of"
)


def reap(connection: sa.Connection, now: datetime) -> int:
    """Give back the places of leases that ended before ``now``, AT_ONCE at most; how many.

    The rows stay: who comes back has the same pair, if there is a place for them still. A task
    that is open again by this goes behind all others.
    """
    due = _DUE.order_by(leases.c.task_id).limit(AT_ONCE)
    if connection.dialect.name != "sqlite":
        due = due.with_for_update(skip_locked=True)
    tokens = list(connection.scalars(due, {"now": now}))
    if not tokens:
        return 0
    dead = sa.update(leases).where(leases.c.token.in_(tokens), leases.c.live).values(live=False)
    ended = Counter(connection.scalars(dead.returning(leases.c.task_id)))
    back = ledger.behind_all()
    connection.execute(
        _GIVE_BACK, [{"of": of, "n": n, "back": back} for of, n in sorted(ended.items())]
    )
    return len(tokens)
