"""Leases: what raters do, each in one transaction: next, cast, undo, flag, a sign of life.

``cast`` is the hot path: the vote is written and the next task taken together. Ids are UUIDs that
the client made, so a request that is sent again changes nothing and is answered the same way.
A vote by somebody who was shown the task is never refused for being slow: without a place among
the k it is kept and marked late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

import sqlalchemy as sa

from prefkit.core.errors import StoreError
from prefkit.core.records import Task, Vote
from prefkit.store import chain, guidance, ledger
from prefkit.store.chain import NewEvent, RaterRow
from prefkit.store.database import Database
from prefkit.store.leasing import Hand, Leased, LeasePlan, Slot, coming, fill, hold, take_place
from prefkit.store.quick import Quick
from prefkit.store.reaping import AT_ONCE, reap
from prefkit.store.rows import newest, text_digest, text_row
from prefkit.store.shown import NotServed, Seen, is_known, known_vote, seen_under
from prefkit.store.tables import flags, leases, standing, tasks, texts

State = Literal["ready", "waiting", "done"]
Clock = Callable[[sa.Connection], datetime]
T = TypeVar("T")


class Spent(StoreError):
    """A vote on a task that this rater has voted on, which does not say what it replaces."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """A vote on its way: id is the client's UUID, token that of the lease.

    judged: the vote, once it is known what the rater saw; its id is the ballot's. replaces: the
    rater's own vote on the task, where they mean to change it. facts: more for its event.
    """

    id: str
    token: str
    judged: Callable[[Seen], Vote]
    replaces: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Done:
    """What a request wrote. vote: as stored, None where there is none.

    fresh: whether it was this request and not an earlier one with the same id. before: the choice
    that stood until then; kind: the kind of its task.
    """

    vote: Vote | None = None
    fresh: bool = False
    before: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request, and what the rater holds now, the pair to show first.

    state: "waiting" where others hold what may come back; soon: the search is not at its end, and
    goes on with the next request.
    """

    done: Done
    held: tuple[Leased, ...]
    state: State
    soon: bool = False

    @property
    def vote(self) -> Vote | None:
        """The vote that was written, or had been before."""
        return self.done.vote


def database_clock(connection: sa.Connection) -> datetime:
    """The time: one for all on PostgreSQL, where the app may run on several machines."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    return _CLOCK(connection).scalar()


# Along with the time, for this transaction: every look-up of ours has its index. What the planner
# would choose by statistics of a table that was just filled sorts all open tasks for one.
_CLOCK = Quick(
    "SELECT clock_timestamp(), set_config('enable_seqscan', 'off', true), "
    "set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true), "
    "set_config('jit', 'off', true)"
)
_BY: sa.BindParameter[Any] = sa.bindparam("by")
_ON: sa.BindParameter[Any] = sa.bindparam("on_task")
_STANDS = Quick("SELECT vote_id, choice FROM standing WHERE task_id = :task_id AND rater = :rater")
_END = Quick("DELETE FROM leases WHERE task_id = :task_id AND rater = :rater RETURNING live")
_CASES = tasks.alias()
_OTHERS_HOLD = (
    sa.select(sa.literal(1))
    .select_from(leases.join(tasks, tasks.c.id == leases.c.task_id))
    .where(
        leases.c.live,
        leases.c.rater != _BY,
        tasks.c.lane < 2,
        tasks.c.n_done < tasks.c.k,
        ~sa.exists().where(standing.c.task_id == tasks.c.id, standing.c.rater == _BY),
        ~sa.exists().where(_CASES.c.id == tasks.c.id + "-" + _BY),
    )
    .limit(1)
)
_STILL_OPEN = sa.text(
    "SELECT 1 FROM tasks t WHERE t.lane IN (0, 1) AND t.k > t.n_done + t.n_leased AND NOT EXISTS "
    "(SELECT 1 FROM standing s WHERE s.task_id = t.id AND s.rater = :by) AND NOT EXISTS "
    "(SELECT 1 FROM tasks j WHERE j.id = t.id || '-' || :by) LIMIT 1"
)
_WAS_SERVED = sa.text("SELECT token FROM served WHERE task_id = :on_task AND rater = :by")
_UNFLAG = sa.delete(flags).where(flags.c.task_id == _ON, flags.c.rater == _BY)
_BEAT = sa.update(leases).where(
    leases.c.rater == _BY,
    leases.c.live,
    leases.c.token.in_(sa.bindparam("tokens", expanding=True)),
)


class Leases:
    """What raters hold, over a store's database; safe for several threads and processes.

    wanted: how many votes a task wants, where that follows from its votes. written: called with
    the number of events after each request.
    """

    def __init__(
        self,
        database: Database,
        *,
        wanted: ledger.Wanted | None = None,
        clock: Clock = database_clock,
        written: Callable[[int], None] = lambda n: None,
    ) -> None:
        self._db = database
        self._wanted = wanted
        self._clock = clock
        self._written = written

    def next(self, rater: str, plan: LeasePlan) -> Future[Outcome]:
        """What the rater holds; the same until they vote or stay away for too long."""

        def work(connection: sa.Connection, row: RaterRow, now: datetime) -> Outcome:
            return self._outcome(connection, row, plan, now, Done())

        return self._submit(rater, work)

    def cast(self, rater: str, ballot: Ballot, plan: LeasePlan) -> Future[Outcome]:
        """Write the vote and take the next task.

        The future raises NotServed, IdTaken or Spent.
        """

        def work(connection: sa.Connection, row: RaterRow, now: datetime) -> Outcome:
            seen = seen_under(connection, rater, ballot.token)
            key = {"task_id": seen.task.id, "rater": rater}
            known = known_vote(connection, ballot.id, rater, "vote", seen.task.id)
            if known is not None:
                return self._outcome(connection, row, plan, now, Done(known))
            before: Any = _STANDS(connection, **key).first()
            standing_id, choice = (None, None) if before is None else before
            if standing_id != ballot.replaces:
                raise Spent(
                    f"task {seen.task.id} has a vote of this rater",
                    hint="say which vote is replaced, or go on with the next pair",
                )
            ended = _END(connection, **key).scalar()
            (vote,) = ledger.enter(
                connection,
                {rater: row},
                [ballot.judged(seen)],
                leases={seen.task.id: -1} if ended else None,
                wanted=self._wanted,
                facts=ballot.facts,
            )
            done = Done(vote, True, choice, seen.task.kind)
            return self._outcome(connection, row, plan, now, done)

        return self._submit(rater, work)

    def undo(self, rater: str, undo_id: str, plan: LeasePlan) -> Future[Outcome]:
        """Withdraw the rater's newest vote that stands and let them hold its task again, first.

        vote is None where none stands. The future raises IdTaken.
        """

        def work(connection: sa.Connection, row: RaterRow, now: datetime) -> Outcome:
            known = known_vote(connection, undo_id, rater, "undo", None)
            last = newest(connection, rater) if known is None else None
            if last is None:
                return self._outcome(connection, row, plan, now, Done(known))
            done = self._withdraw(connection, row, last, undo_id, plan, now)
            return self._outcome(connection, row, plan, now, done)

        return self._submit(rater, work)

    def _withdraw(
        self,
        connection: sa.Connection,
        row: RaterRow,
        last: Vote,
        undo_id: str,
        plan: LeasePlan,
        now: datetime,
    ) -> Done:
        """The place of a counted vote stays with its rater; else they get one only if one is free.

        Without a place the lease is a dead one, and the new vote will be late as the old one was:
        otherwise an undo would serve the task once too often.
        """
        had_place = last.choice in ledger.COUNTED and not last.late
        held = _END(connection, task_id=last.task_id, rater=row.rater).scalar()
        (vote,) = ledger.enter(
            connection,
            {row.rater: row},
            [ledger.withdrawal(last, undo_id, now, plan.guidelines)],
            leases={last.task_id: had_place - bool(held)},
        )
        found = connection.execute(_TASK, {"on_task": last.task_id}).one()
        task = Task(found.id, found.comparison_id, found.kind, found.k)
        side: Slot = last.shown_first or "a"
        live = had_place or take_place(connection, task.id)
        hold(connection, row, plan, now, task, found.lane, side, live=live)
        return Done(vote, True, last.choice, task.kind)

    def beat(self, rater: str, tokens: Sequence[str], ttl: timedelta) -> Future[int]:
        """A sign of life: what is held of ``tokens`` is held for ``ttl`` from now; how many are."""

        def work(connection: sa.Connection) -> int:
            values = {"by": rater, "tokens": list(tokens)}
            until = self._clock(connection) + ttl
            return connection.execute(_BEAT.values(expires_at=until), values).rowcount

        return self._db.submit(work)

    def flag(
        self,
        rater: str,
        event_id: str,
        task_id: str,
        *,
        on: bool,
        note: str | None = None,
        guidelines: str | None = None,
    ) -> Future[None]:
        """Flag a task for the lead, or take the flag off; guidelines: the version in force.

        The future raises NotServed, IdTaken.
        """

        def work(connection: sa.Connection, row: RaterRow, now: datetime) -> None:
            key = {"on_task": task_id, "by": rater}
            if connection.execute(_WAS_SERVED, key).first() is None:
                raise NotServed(f"task {task_id} was never shown to this rater")
            if is_known(connection, event_id, rater, "flag", task_id):
                return
            payload: dict[str, Any] = {"on": on}
            if guidelines is not None:
                payload["guideline_version"] = guidelines
            if note is not None and on:
                words = text_row(event_id, "note", rater, note)
                payload["note"] = text_digest(words["salt"], words["text"])
                connection.execute(sa.insert(texts), words)
            event = NewEvent(event_id, rater, "flag", task_id, now, payload)
            chain.append(connection, {rater: row}, [event])
            connection.execute(_UNFLAG, key)
            if on:
                noted = event_id if "note" in payload else None
                row_of = {"task_id": task_id, "rater": rater, "note_id": noted, "at": now}
                connection.execute(sa.insert(flags), row_of)

        return self._submit(rater, work)

    def read_guidelines(self, rater: str, event_id: str, version: str) -> Future[bool]:
        """Note that the rater was shown a version of the guidelines; whether that was new."""

        def work(connection: sa.Connection) -> bool:
            now = self._clock(connection)
            return guidance.mark_read(connection, rater, event_id, version, now)

        return self._db.submit(work)

    def seen(self, rater: str, token: str) -> Seen:
        """What the rater was shown under ``token``; raises NotServed."""
        with self._db.reading() as connection:
            return seen_under(connection, rater, token)

    def token_of(self, rater: str, task_id: str) -> str:
        """The first token under which the rater was shown a task; raises NotServed."""
        with self._db.reading() as connection:
            found = connection.scalar(_WAS_SERVED, {"on_task": task_id, "by": rater})
        if found is None:
            raise NotServed(f"task {task_id} was never shown to this rater")
        return str(found)

    def coming(self, rater: str, plan: LeasePlan, n: int) -> list[str]:
        """Comparisons that the rater will probably be given after what they hold; takes nothing."""
        with self._db.reading() as connection:
            self._clock(connection)  # and with it the index for each look-up
            return coming(connection, chain.read_rater(connection, rater), plan, n)

    def reap(self) -> int:
        """Give back the places of those who gave no sign of life in time; how many."""
        n = 0
        while True:
            ended = self._db.write(lambda connection: reap(connection, self._clock(connection)))
            n += ended
            if ended < AT_ONCE:
                return n

    def _submit(
        self, rater: str, work: Callable[[sa.Connection, RaterRow, datetime], T]
    ) -> Future[T]:
        def whole(connection: sa.Connection) -> T:
            row = chain.lock_raters(connection, [rater])[rater]
            n_before = row.n
            value = work(connection, row, self._clock(connection))
            chain.save(connection, [row])
            n_written.append(row.n - n_before)
            return value

        n_written: list[int] = []
        future = self._db.submit(whole)
        future.add_done_callback(lambda _: self._written(n_written[-1]) if n_written else None)
        return future

    def _outcome(
        self,
        connection: sa.Connection,
        row: RaterRow,
        plan: LeasePlan,
        now: datetime,
        done: Done,
    ) -> Outcome:
        hand = fill(connection, row, plan, now)
        if not hand.held and reap(connection, now):
            hand = fill(connection, row, plan, now)
        state = _state(connection, row, hand)
        return Outcome(done, tuple(hand.held), state, hand.walking and not hand.held)


_TASK = sa.select(tasks).where(tasks.c.id == _ON)


def _state(connection: sa.Connection, row: RaterRow, hand: Hand) -> State:
    if hand.held:
        return "ready"
    by = {"by": row.rater}
    if hand.walking or connection.execute(_OTHERS_HOLD, by).first() is not None:
        return "waiting"
    # Rows that another transaction had locked were passed: they are looked for again.
    if connection.execute(_STILL_OPEN, by).first() is not None:
        row.looked_at = None
        return "waiting"
    return "done"
