"""Views made again from the events: compared with the live ones, or written in their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import sqlalchemy as sa

from prefkit.core.errors import StoreError
from prefkit.core.records import Vote
from prefkit.store import chain, ledger
from prefkit.store.chain import Event, RaterRow
from prefkit.store.database import chunks
from prefkit.store.ledger import Flagged, Shown, Stand, Views
from prefkit.store.rows import vote_of, vote_row
from prefkit.store.tables import events, flags, leases, raters, served, standing, tasks, votes

_ROWS = 1000  # fetched at a time
V = TypeVar("V")


def all_events(connection: sa.Connection) -> Iterator[Event]:
    """Every event in the order of the store."""
    query = sa.select(events).order_by(events.c.seq).execution_options(yield_per=_ROWS)
    for row in connection.execute(query).mappings():
        yield chain.event_of(row)


def views_of(connection: sa.Connection) -> Views:
    """The views as the events make them; StoreError where an event cannot be read."""
    views = Views()
    for event in all_events(connection):
        try:
            ledger.fold(views, event)
        except ledger.UNREADABLE as error:
            raise StoreError(
                f"rater {event.rater}, event {event.n}: cannot be read: {error}",
                hint="prefkit store verify names every fault; put a backup in its place",
            ) from None
    return views


def differences(connection: sa.Connection, views: Views) -> list[str]:
    """One line for each row of the live views that is not what ``views`` says."""
    return [
        *_vote_differences(connection, views),
        *_compare(_stored_stands(connection), views.stands, "what stands", "the votes say"),
        *_compare(_stored_served(connection), views.served, "what was served", "the events say"),
        *_compare(_stored_flags(connection), views.flags, "the flag", "the events say"),
        *_counter_differences(connection, views),
        *_rater_differences(connection, views),
    ]


def _vote_differences(connection: sa.Connection, views: Views) -> Iterator[str]:
    missing = set(views.votes)
    query = sa.select(votes).order_by(votes.c.seq).execution_options(yield_per=_ROWS)
    for row in connection.execute(query).mappings():
        missing.discard(row["seq"])
        expected = views.votes.get(row["seq"])
        if expected is None:
            yield f"vote {row['id']}: no event says so"
        elif not _is(row, expected):
            yield f"vote {row['id']}: not what its event says"
    for seq in sorted(missing):
        yield f"vote {views.votes[seq].id}: its event is there, the vote is gone"


def _is(row: Mapping[Any, Any], vote: Vote) -> bool:
    try:
        return vote_of(row) == vote
    except ledger.UNREADABLE:
        return False


def _compare(
    stored: Mapping[ledger.Key, V], expected: Mapping[ledger.Key, V], what: str, said: str
) -> Iterator[str]:
    for task_id, rater in sorted(stored.keys() | expected.keys()):
        if stored.get((task_id, rater)) != expected.get((task_id, rater)):
            yield f"task {task_id}, rater {rater}: {what} is not what {said}"


def _stored_stands(connection: sa.Connection) -> dict[ledger.Key, Stand]:
    return {
        (row.task_id, row.rater): Stand(row.vote_id, row.choice, row.counted)
        for row in connection.execute(sa.select(standing))
    }


def _stored_served(connection: sa.Connection) -> dict[ledger.Key, Shown]:
    return {
        (row.task_id, row.rater): Shown(row.shown_first, row.at, row.lane, row.token)
        for row in connection.execute(sa.select(served))
    }


def _stored_flags(connection: sa.Connection) -> dict[ledger.Key, Flagged]:
    return {
        (row.task_id, row.rater): Flagged(row.note_id, row.at)
        for row in connection.execute(sa.select(flags))
    }


def _counter_differences(connection: sa.Connection, views: Views) -> Iterator[str]:
    held = _held(connection)
    counters = sa.select(tasks.c.id, tasks.c.n_done, tasks.c.n_leased).order_by(tasks.c.id)
    for row in connection.execute(counters):
        if row.n_done != views.n_done[row.id]:
            yield f"task {row.id}: {row.n_done} votes noted, {views.n_done[row.id]} counted"
        if row.n_leased != held[row.id]:
            yield f"task {row.id}: {row.n_leased} leases noted, {held[row.id]} counted"


def _held(connection: sa.Connection) -> Counter[str]:
    live = sa.select(leases.c.task_id).where(leases.c.live)
    return Counter(connection.scalars(live))


def _rater_differences(connection: sa.Connection, views: Views) -> Iterator[str]:
    stored = {row.rater: row for row in connection.execute(sa.select(raters))}
    for name in sorted(stored.keys() | views.raters.keys()):
        row, expected = stored.get(name), views.raters.get(name, RaterRow(name))
        if row is None:
            yield f"rater {name}: has events and no row"
        elif (row.n, row.head) != (expected.n, expected.head):
            yield (
                f"rater {name}: {row.n} events noted, {expected.n} found, or the last is another"
            )
        elif (row.n_served, row.n_votes) != (expected.n_served, expected.n_votes):
            yield f"rater {name}: the counts of votes and served tasks are wrong"


def write(connection: sa.Connection, views: Views) -> None:
    """Put ``views`` in the place of the live ones, in the caller's transaction."""
    with_triggers = _without_triggers(connection)
    for table in (standing, served, flags, votes):
        connection.execute(sa.delete(table))
    for batch in chunks(sorted(views.votes.items())):
        connection.execute(sa.insert(votes), [vote_row(vote, seq) for seq, vote in batch])
    for batch in chunks(sorted(views.stands.items(), key=_by_key)):
        connection.execute(sa.insert(standing), [ledger.stand_row(k, last) for k, last in batch])
    for table, rows in ((served, views.served), (flags, views.flags)):
        for batch in chunks(sorted(rows.items(), key=_by_key)):
            connection.execute(sa.insert(table), [_row(key, value) for key, value in batch])
    with_triggers()
    _write_counters(connection, views)
    _write_raters(connection, views)


def _by_key(item: tuple[ledger.Key, Any]) -> ledger.Key:
    return item[0]


def _row(key: ledger.Key, value: Shown | Flagged) -> dict[str, Any]:
    fields = {name: getattr(value, name) for name in value.__dataclass_fields__}
    return {"task_id": key[0], "rater": key[1], **fields}


def _without_triggers(connection: sa.Connection) -> Any:
    """Let votes be deleted; a function that forbids it again."""
    if connection.dialect.name != "sqlite":
        connection.execute(sa.text("ALTER TABLE votes DISABLE TRIGGER USER"))
        return lambda: connection.execute(sa.text("ALTER TABLE votes ENABLE TRIGGER USER"))
    made = connection.execute(
        sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'votes'")
    ).all()
    for name, _ in made:
        connection.exec_driver_sql(f'DROP TRIGGER "{name}"')

    def put_back() -> None:
        for _, sql in made:
            connection.exec_driver_sql(sql)

    return put_back


def _write_counters(connection: sa.Connection, views: Views) -> None:
    held = _held(connection)
    wrong = [
        {"of": row.id, "done": views.n_done[row.id], "leased": held[row.id]}
        for row in connection.execute(sa.select(tasks.c.id, tasks.c.n_done, tasks.c.n_leased))
        if (row.n_done, row.n_leased) != (views.n_done[row.id], held[row.id])
    ]
    change = (
        sa.update(tasks)
        .where(tasks.c.id == sa.bindparam("of"))
        .values(n_done=sa.bindparam("done"), n_leased=sa.bindparam("leased"))
    )
    if wrong:
        connection.execute(change, wrong)


def _write_raters(connection: sa.Connection, views: Views) -> None:
    rows = chain.lock_raters(
        connection, [*connection.scalars(sa.select(raters.c.rater)), *views.raters]
    )
    for name, row in rows.items():
        found = views.raters.get(name, RaterRow(name))
        row.n, row.head = found.n, found.head
        row.n_served, row.n_votes = found.n_served, found.n_votes
    chain.save(connection, rows.values())


def lock(connection: sa.Connection) -> None:
    """Let nobody write what the views hold until the transaction ends (SQLite: nobody can anyway).

    In the order in which a vote takes them, so that none in flight waits for this while this waits
    for it. leases and tasks too: places are given back without an event.
    """
    if connection.dialect.name != "sqlite":
        names = "raters, leases, tasks, events"
        connection.execute(sa.text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))
