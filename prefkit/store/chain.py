"""Events and their chains: what is hashed, how a chain grows, what one that was tampered with says.

Each rater has a chain of their own, numbered from 1 without gaps. An event's hash covers all of
the event and the hash before it, so a change, a gap or a swap shows at the next link. The chain
``system`` holds what no rater did. Under the lock of the rater's row a chain cannot fork.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from prefkit.store.database import chunks, insert_new
from prefkit.store.quick import Quick
from prefkit.store.tables import events, meta, outbox, raters

Kind = Literal[
    "served", "again", "vote", "undo", "flag", "guidelines",
    "k", "order", "guidelines_set", "gold", "erased",
]  # fmt: skip
SYSTEM = "system"
START = "0" * 64  # what stands before the first event
RULE = 1  # of the hash: the first item of what is hashed
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Statements are made once: making one anew costs more than SQLite takes to do it.
_NEXT = sa.text(
    "SELECT nextval(pg_get_serial_sequence('events', 'seq')) FROM generate_series(1, :n)"
)
_WRITING = sa.text("LOCK TABLE events IN ROW EXCLUSIVE MODE")
_LAST = Quick("SELECT max(seq) FROM events")
_FIELDS = ("seq", "id", "rater", "n", "kind", "task_id", "at", "payload", "prev", "hash")
# One event; what a statement that writes more beside it ends with.
INSERT_ONE = (
    f"INSERT INTO events ({', '.join(_FIELDS[1:])}) "
    f"VALUES ({', '.join(f':{name}' for name in _FIELDS[1:])}) "
    "RETURNING seq, EXISTS (SELECT 1 FROM hooks WHERE active) AS hooked"
)
_INSERT_ONE = Quick(INSERT_ONE)
_INSERT = sa.insert(events)
_NAMES: sa.BindParameter[Any] = sa.bindparam("names", expanding=True)
_READ = sa.select(
    raters,
    sa.select(meta.c.value).where(meta.c.key == "order_epoch").scalar_subquery().label("order"),
)
_LOCK = _READ.where(raters.c.rater.in_(_NAMES)).order_by(raters.c.rater).with_for_update(of=raters)
_HOOKS = Quick("SELECT id, kinds FROM hooks WHERE active")
_POST = sa.insert(outbox)
_OF_ONE = _READ.where(raters.c.rater == sa.bindparam("name"))
_READ_ONE = Quick(_OF_ONE)
_LOCK_ONE = Quick(_OF_ONE.with_for_update(of=raters))
_PLACES = [f"at{lane}_{part}" for lane in range(3) for part in ("p", "id")]
_SAVE = Quick(
    sa.update(raters).where(raters.c.rater == sa.bindparam("of")),
    values=("n", "head", "n_served", "n_votes", "epoch", "looked_at", *_PLACES),
)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """What a rater did, before it has its place. id: a UUID of the client, or a lease's token."""

    id: str
    rater: str
    kind: Kind
    task_id: str | None
    at: datetime
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """A row of ``events``. at: microseconds since 1970 UTC. payload: JSON text, as hashed."""

    seq: int
    id: str
    rater: str
    n: int
    kind: str
    task_id: str | None
    at: int
    payload: str
    prev: str
    hash: str


@dataclass(slots=True)
class RaterRow:
    """The end of a rater's chain (n events, the hash of the last) and what follows from it.

    at: lane → (priority, id) of the task last leased from it; epoch: the order of tasks that they
    are places in, order: the one in force. They belong to leasing and follow from no event.
    """

    rater: str
    n: int = 0
    head: str = START
    n_served: int = 0
    n_votes: int = 0
    epoch: int = 0
    order: int = 0
    at: dict[int, tuple[int, str]] = field(
        default_factory=lambda: {0: (-1, ""), 1: (-1, ""), 2: (-1, "")}
    )
    looked_at: datetime | None = None

    def take(self, event: Event) -> None:
        """Let ``event`` be the last of the chain."""
        self.n, self.head = event.n, event.hash
        self.n_served += event.kind == "served"
        self.n_votes += event.kind == "vote"


def micros(at: datetime) -> int:
    """Microseconds from 1970 to ``at``, exactly."""
    return (at - _EPOCH) // _MICROSECOND


def moment(at: int) -> datetime:
    """The aware UTC time of ``micros``."""
    return _EPOCH + at * _MICROSECOND


def compact(value: Any) -> str:
    """One ASCII text for one value; NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(data: str | bytes) -> str:
    """BLAKE2b-256 as 64 hexadecimal digits."""
    raw = data.encode("utf-8") if isinstance(data, str) else data
    return hashlib.blake2b(raw, digest_size=32).hexdigest()


def event_hash(event: Event) -> str:
    """What ``event.hash`` has to be: a digest of everything else but its row number."""
    names = ("rater", "n", "kind", "at", "id", "task_id", "payload", "prev")
    return digest(compact([RULE, *(getattr(event, name) for name in names)]))


def lock_raters(connection: sa.Connection, names: Iterable[str]) -> dict[str, RaterRow]:
    """The rows of ``names``, made where they are new, locked until the transaction ends.

    Locked in the order of their names, and before any task: so no two writers wait for each other.
    """
    rows: dict[str, RaterRow] = {}
    for chunk in chunks(sorted(set(names))):
        found = _locked(connection, chunk)
        missing = [name for name in chunk if name not in found]
        if missing:
            new = [{"rater": name, "n_signed": 0, **_columns(RaterRow(name))} for name in missing]
            connection.execute(insert_new(connection, raters), new)
            found |= _locked(connection, missing)
        rows |= found
    return rows


def read_rater(connection: sa.Connection, name: str) -> RaterRow:
    """The row of ``name``, not locked: to look at and not to save."""
    found = _READ_ONE(connection, name=name).first()
    return RaterRow(name) if found is None else _rater_row(found)


def _locked(connection: sa.Connection, names: list[str]) -> dict[str, RaterRow]:
    if len(names) == 1:  # as every vote has it: an IN is compiled anew at each run
        found = _LOCK_ONE(connection, name=names[0])
    else:
        found = connection.execute(_LOCK, {"names": names})
    return {row.rater: _rater_row(row) for row in found}


def _rater_row(row: Any) -> RaterRow:
    return RaterRow(
        row.rater,
        row.n,
        row.head,
        row.n_served,
        row.n_votes,
        row.epoch,
        int(row.order),
        {0: (row.at0_p, row.at0_id), 1: (row.at1_p, row.at1_id), 2: (row.at2_p, row.at2_id)},
        row.looked_at,
    )


def append(
    connection: sa.Connection, rows: Mapping[str, RaterRow], new: Sequence[NewEvent]
) -> list[Event]:
    """Write ``new`` to the ends of their raters' chains, in this order; the events as written.

    rows: what ``lock_raters`` gave, in the same transaction. They are moved on, and not written:
    call ``save`` when all is done.
    """
    if len(new) == 1:
        return [append_one(connection, rows[new[0].rater], new[0])]
    written: list[Event] = []
    for seq, event in zip(_take(connection, len(new)), new, strict=True):
        row = rows[event.rater]
        linked = link(row, seq, event)
        row.take(linked)
        written.append(linked)
    if written:
        connection.execute(_INSERT, [event_row(event) for event in written])
        _announce(connection, written)
    return written


def append_one(
    connection: sa.Connection,
    row: RaterRow,
    new: NewEvent,
    insert: Quick = _INSERT_ONE,
    beside: Mapping[str, Any] | None = None,
) -> Event:
    """One event, as a vote or a lease has it; the database gives its number (it is not hashed).

    insert: a statement that ends with INSERT_ONE; beside: its other values.
    """
    linked = link(row, 0, new)
    given: Any = insert(connection, **event_row(linked), **(beside or {})).one()
    linked = replace(linked, seq=given.seq)
    row.take(linked)
    if given.hooked:
        _announce(connection, [linked])
    return linked


def note(connection: sa.Connection, kind: Kind, payload: Mapping[str, Any], now: datetime) -> None:
    """An event of the chain ``system``: what no rater did."""
    rows = lock_raters(connection, [SYSTEM])
    append(connection, rows, [NewEvent(str(uuid.uuid4()), SYSTEM, kind, None, now, payload)])
    save(connection, rows.values())


def _announce(connection: sa.Connection, written: Sequence[Event]) -> None:
    """Put what a hook asked for into the outbox, in the transaction that it happened in.

    A hook's ``kinds`` are kinds of events with commas between. A body has no rationale, edit or
    note in it, only their digests: what was sent cannot be erased.
    """
    hooked = _HOOKS(connection).all()
    rows = [
        {
            "event_seq": event.seq,
            "hook_id": hook.id,
            "body": event_body(event),
            "tries": 0,
            "next_at": moment(event.at),
            "state": "waiting",
        }
        for hook in hooked
        for event in written
        if event.kind in hook.kinds.split(",")
    ]
    if rows:
        connection.execute(_POST, rows)


def event_body(event: Event) -> str:
    """An event as those outside see it: JSON with its time in ISO 8601."""
    names = ("id", "kind", "rater", "n", "task_id")
    facts = {name: getattr(event, name) for name in names}
    said = json.loads(event.payload)
    return compact({**facts, "at": moment(event.at).isoformat(), "payload": said})


def link(row: RaterRow, seq: int, new: NewEvent) -> Event:
    """``new`` as the event after the last of ``row``."""
    open_end = Event(
        seq=seq,
        id=new.id,
        rater=new.rater,
        n=row.n + 1,
        kind=new.kind,
        task_id=new.task_id,
        at=micros(new.at),
        payload=compact(new.payload),
        prev=row.head,
        hash="",
    )
    return replace(open_end, hash=event_hash(open_end))


def event_row(event: Event) -> dict[str, Any]:
    """The row of an event."""
    return {name: getattr(event, name) for name in _FIELDS}


def event_of(row: Mapping[Any, Any]) -> Event:
    """The event of a row."""
    return Event(**row)


def _take(connection: sa.Connection, n: int) -> list[int]:
    """The next n row numbers, rising."""
    if n == 0:
        return []
    if connection.dialect.name == "sqlite":  # its writer is alone, and events are never deleted
        last = _LAST(connection).scalar() or 0
        return list(range(last + 1, last + 1 + n))
    # Before the numbers are taken, as an INSERT does it: store/pages.py waits for who holds this.
    connection.execute(_WRITING)
    return sorted(connection.scalars(_NEXT, {"n": n}))


def save(connection: sa.Connection, rows: Iterable[RaterRow]) -> None:
    """Write the locked rows back."""
    values = [{"of": row.rater, **_columns(row)} for row in rows]
    if values:
        _SAVE.many(connection, values)


def _columns(row: RaterRow) -> dict[str, Any]:
    places = {
        f"at{lane}_{part}": value
        for lane, place in row.at.items()
        for part, value in zip(("p", "id"), place, strict=True)
    }
    plain = ("n", "head", "n_served", "n_votes", "epoch", "looked_at")
    return {name: getattr(row, name) for name in plain} | places
