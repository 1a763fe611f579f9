"""Raters over leases, for the tests of the store and of the laws."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from prefkit.core.records import Vote
from prefkit.store.leases import Ballot
from prefkit.store.leasing import LeasePlan

SOON = timedelta(minutes=10)


class Clock:
    """The time as a test wants it."""

    def __init__(self):
        self.now = datetime(2026, 11, 21, tzinfo=UTC)

    def __call__(self, connection):
        return self.now

    def pass_(self, **values):
        self.now += timedelta(**values)


def plan(want=1, *, lanes=(1,), side="a", repeat=False, ttl=SOON):
    """A plan that does the same for every rater."""
    return LeasePlan(want, ttl, lambda row: lanes, lambda row: side, lambda row: repeat)


def ballot(rater, lease, choice="a", *, vote_id=None, replaces=None, at=None, **values):
    """A person's vote on what they hold; lease is a Leased or its token."""
    own = vote_id or str(uuid.uuid4())

    def judged(seen):
        return Vote(
            id=own,
            task_id=seen.task.id,
            comparison_id=seen.task.comparison_id,
            rater=rater,
            rater_kind="human",
            choice=choice,
            at=at or datetime.now(UTC),
            shown_first=seen.shown_first,
            **values,
        )

    token = lease if isinstance(lease, str) else lease.token
    return Ballot(own, token, judged, replaces)


def take(store, rater, side="b"):
    """What ``rater`` holds after asking for one task, with ``side`` on the left."""
    return Desk(store.leases(), plan(side=side)).next(rater).held[0]


class Desk:
    """Leases with plain calls: what a rater holds, votes and takes back."""

    def __init__(self, leases, the_plan=None):
        self.leases = leases
        self.plan = the_plan or plan()

    def next(self, rater):
        return self.leases.next(rater, self.plan).result(30)

    def vote(self, rater, lease, choice="a", **values):
        return self.leases.cast(rater, ballot(rater, lease, choice, **values), self.plan).result(30)

    def undo(self, rater, undo_id=None):
        return self.leases.undo(rater, undo_id or str(uuid.uuid4()), self.plan).result(30)
