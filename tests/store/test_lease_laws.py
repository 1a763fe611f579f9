"""Leases under anything that can happen, in any order: the laws hold after every step.

- what is noted is what is counted (``verify``: views = replay, n_done, n_leased = live leases);
- a task has no more than k votes on time and places held, of people and machines, while k is not
  lowered; with raters enough it ends with exactly k;
- each vote that was acknowledged is there once, as it was acknowledged;
- nobody is given a task that they have voted on, and a task's sides never change for a rater.
"""

from __future__ import annotations

import tempfile
import uuid
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from lease_cases import Clock, Desk, plan
from store_cases import pairs, vote

from prefkit.store import VoteStore
from prefkit.store.leases import Spent
from prefkit.store.shown import IdTaken, NotServed

RATERS = st.sampled_from(["kim", "lee", "mia"])
CHOICES = st.sampled_from(["a", "b", "tie", "both_bad", "skip"])
COUNTED = {"a", "b", "tie", "both_bad", "invalid"}
MOST = 3


class LeaseMachine(RuleBasedStateMachine):
    """Raters with tabs, clocks and crashes over one store; what they were told is the oracle."""

    new_place = staticmethod(lambda: tempfile.mkdtemp() + "/votes.db")

    def __init__(self):
        super().__init__()
        self.place, self.clock = self.new_place(), Clock()
        self.home = Path(tempfile.mkdtemp())
        self.n_tasks, self.k = 3, 2
        self.tokens = {}  # token -> (rater, task id)
        self.sides = {}  # (rater, task id) -> slot
        self.told = {}  # vote id -> vote as acknowledged
        self.sent = []  # (rater, token, choice, vote id) of acknowledged ballots
        self.undone = []  # (rater, undo id)
        self.unbounded = set()  # tasks whose k was lowered
        self.open_store()
        self.store.add(pairs(self.n_tasks), k=self.k)

    def open_store(self):
        self.store = VoteStore.open(self.place, home=self.home)
        self.desk = Desk(self.store.leases(clock=self.clock), plan(2))

    def teardown(self):
        try:
            self.all_reach_k_with_raters_enough()
        finally:
            self.store.close()

    # What raters do

    def heed(self, rater, outcome):
        """What every answer promises."""
        stands = self.stands()
        for lease in outcome.held:
            key = (rater, lease.task.id)
            assert (lease.task.id, rater) not in stands
            assert self.sides.setdefault(key, lease.shown_first) == lease.shown_first
            self.tokens[lease.token] = key
        assert (outcome.state == "ready") == bool(outcome.held)
        return outcome

    @rule(rater=RATERS, want=st.integers(1, 2), side=st.sampled_from("ab"))
    def asks(self, rater, want, side):
        self.desk.plan = plan(want, side=side)
        outcome = self.heed(rater, self.desk.next(rater))
        assert self.desk.next(rater).held == outcome.held

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), choice=CHOICES)
    def votes(self, data, choice):
        token = data.draw(st.sampled_from(list(self.tokens)))
        rater, task_id = self.tokens[token]
        before = self.stands().get((task_id, rater))
        task, live = self.task(task_id), self.is_live(task_id, rater)
        if before is not None:
            with pytest.raises(Spent):
                self.desk.vote(rater, token, choice)
            return
        own = str(uuid.uuid4())
        outcome = self.heed(rater, self.desk.vote(rater, token, choice, vote_id=own))
        free = task.k - task.n_done - task.n_leased
        # Whoever holds a place is late only where k was lowered below what is done.
        late = choice in COUNTED and free + live < 1
        assert (outcome.vote.id, outcome.vote.late, outcome.done.fresh) == (own, late, True)
        assert outcome.vote.shown_first == self.sides[rater, task_id]
        self.told[own] = outcome.vote
        self.sent.append((rater, token, choice, own))

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), choice=CHOICES)
    def revises(self, data, choice):
        token = data.draw(st.sampled_from(list(self.tokens)))
        rater, task_id = self.tokens[token]
        before = self.stands().get((task_id, rater))
        if before is None:
            return
        outcome = self.heed(rater, self.desk.vote(rater, token, choice, replaces=before.vote_id))
        assert outcome.vote.replaces == before.vote_id
        if before.counted:
            assert outcome.vote.late is False
        self.told[outcome.vote.id] = outcome.vote
        self.sent.append((rater, token, choice, outcome.vote.id))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def sends_again(self, data):
        rater, token, choice, own = data.draw(st.sampled_from(self.sent))
        outcome = self.heed(rater, self.desk.vote(rater, token, choice, vote_id=own))
        assert (outcome.vote, outcome.done.fresh) == (self.told[own], False)

    @precondition(lambda self: self.sent and self.tokens)
    @rule(data=st.data())
    def takes_what_is_anothers(self, data):
        of, _, _, own = data.draw(st.sampled_from(self.sent))
        token = data.draw(st.sampled_from(list(self.tokens)))
        rater = self.tokens[token][0]
        if rater == of:
            return
        with pytest.raises(IdTaken):
            self.desk.vote(rater, token, "a", vote_id=own)
        with pytest.raises(NotServed):
            self.desk.vote(of, token, "a")
        with pytest.raises(IdTaken):
            self.desk.undo(rater, own)

    @rule(rater=RATERS)
    def undoes(self, rater):
        mine = {key for key in self.stands() if key[1] == rater}
        undo_id = str(uuid.uuid4())
        outcome = self.heed(rater, self.desk.undo(rater, undo_id))
        if not mine:
            assert outcome.vote is None
            return
        self.told[undo_id] = outcome.vote
        self.undone.append((rater, undo_id))
        assert outcome.vote.task_id in {lease.task.id for lease in outcome.held}

    @precondition(lambda self: self.undone)
    @rule(data=st.data())
    def undoes_again(self, data):
        rater, undo_id = data.draw(st.sampled_from(self.undone))
        outcome = self.heed(rater, self.desk.undo(rater, undo_id))
        assert (outcome.vote, outcome.done.fresh) == (self.told[undo_id], False)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), on=st.booleans(), note=st.sampled_from([None, "look"]))
    def flags(self, data, on, note):
        rater, task_id = self.tokens[data.draw(st.sampled_from(list(self.tokens)))]
        flagging = self.desk.leases.flag(rater, str(uuid.uuid4()), task_id, on=on, note=note)
        flagging.result(30)

    # What happens beside them

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def gives_a_sign_of_life(self, data):
        token = data.draw(st.sampled_from(list(self.tokens)))
        self.desk.leases.beat(self.tokens[token][0], [token], self.desk.plan.ttl).result(30)

    @rule(minutes=st.sampled_from([-30, -1, 1, 6, 15, 600]))
    def time_passes_or_goes_back(self, minutes):
        self.clock.pass_(minutes=minutes)

    @rule()
    def places_are_given_back(self):
        self.desk.leases.reap()

    @rule()
    def the_app_starts_again(self):
        self.store.close()
        self.open_store()

    @rule(index=st.integers(0, 2), choice=st.sampled_from(["a", "b"]))
    def a_machine_votes(self, index, choice):
        comparison = pairs(3)[index]
        task, before = self.task(comparison.id), self.stands().get((comparison.id, "rule:x"))
        free = task.k - task.n_done - task.n_leased
        stored = self.store.vote(vote(comparison, "rule:x", choice, rater_kind="rule"))
        assert stored.late == (free < 1 and not (before is not None and before.counted))
        self.told[stored.id] = stored

    @rule(k=st.integers(1, MOST))
    def another_k_is_wanted(self, k):
        if k < self.k:
            self.unbounded |= {c.id for c in pairs(self.n_tasks)}
        self.k = k
        self.store.want(k)

    @precondition(lambda self: self.n_tasks < 5)
    @rule()
    def a_task_is_added(self):
        self.n_tasks += 1
        self.store.add(pairs(self.n_tasks), k=self.k)

    # The laws

    @invariant()
    def what_is_noted_is_what_is_counted(self):
        assert self.store.verify() == []

    @invariant()
    def every_vote_that_was_acknowledged_is_there_once(self):
        stored = self.store.votes()
        assert len(stored) == len(self.told)
        assert {v.id: v for v in stored} == self.told

    @invariant()
    def no_task_is_over_full(self):
        for task in self.rows("SELECT * FROM tasks"):
            if task.id not in self.unbounded:
                assert task.n_done + task.n_leased <= task.k

    def all_reach_k_with_raters_enough(self):
        for number in range(MOST + 1):
            rater = f"fresh-{number}"
            for _ in range(60):
                self.clock.pass_(hours=2)
                self.desk.leases.reap()
                outcome = self.heed(rater, self.desk.next(rater))
                if outcome.state == "done":
                    break
                if outcome.held:
                    self.told_by(self.desk.vote(rater, outcome.held[0]))
            assert outcome.state == "done"
        for task in self.rows("SELECT * FROM tasks"):
            assert task.n_done >= task.k
            assert task.id in self.unbounded or task.n_done == task.k
        on_time = Counter(task_id for (task_id, _), s in self.stands().items() if s.counted)
        assert {t.id: t.n_done for t in self.rows("SELECT * FROM tasks")} == on_time
        self.what_is_noted_is_what_is_counted()
        self.every_vote_that_was_acknowledged_is_there_once()

    def told_by(self, outcome):
        self.told[outcome.vote.id] = outcome.vote

    # What is in the store, read past its methods

    def rows(self, query, **values):
        with self.store._db.reading() as connection:
            return connection.execute(sa.text(query), values).all()

    def stands(self):
        return {(row.task_id, row.rater): row for row in self.rows("SELECT * FROM standing")}

    def task(self, task_id):
        return self.rows("SELECT * FROM tasks WHERE id = :of", of=task_id)[0]

    def is_live(self, task_id, rater):
        query = "SELECT live FROM leases WHERE task_id = :of AND rater = :by"
        return any(row.live for row in self.rows(query, of=task_id, by=rater))


QUICK = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def test_the_laws_of_leases_hold_on_sqlite():
    run_state_machine_as_test(LeaseMachine, settings=QUICK)


@pytest.mark.long
def test_the_laws_of_leases_hold_on_sqlite_for_longer():
    many = settings(QUICK, max_examples=80, stateful_step_count=40)
    run_state_machine_as_test(LeaseMachine, settings=many)


def on_postgresql(server):
    """The machine with a fresh database on ``server`` for each run."""
    import psycopg

    def new_place():
        name = f"laws_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        plain = server.replace("/postgres", f"/{name}")
        return plain.replace("postgresql://", "postgresql+psycopg://")

    return type("OnPostgres", (LeaseMachine,), {"new_place": staticmethod(new_place)})


@pytest.mark.postgres
def test_the_laws_of_leases_hold_on_postgresql(server):
    run_state_machine_as_test(on_postgresql(server), settings=settings(QUICK, max_examples=6))


@pytest.mark.postgres
@pytest.mark.long
def test_the_laws_of_leases_hold_on_postgresql_for_longer(server):
    many = settings(QUICK, max_examples=25, stateful_step_count=40)
    run_state_machine_as_test(on_postgresql(server), settings=many)
