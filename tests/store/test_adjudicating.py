"""A reviewer's case: blind, theirs alone, outside k; on both databases."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from lease_cases import Desk, plan
from store_cases import pairs, vote

from prefkit.store.adjudicating import NotForYou, case_of, open_case
from prefkit.store.disputes import inbox
from prefkit.store.leases import Spent
from prefkit.store.queries import task_history


@pytest.fixture
def disputed(store):
    """A comparison with its two votes, one for each side."""
    (comparison,) = pairs(1)
    store.add([comparison], k=2)
    store.add_votes([vote(comparison, "kim", "a"), vote(comparison, "lee", "b")])
    return comparison


def opened(store, reviewer, comparison_id, side="b"):
    now = datetime.now(UTC)
    return store.database.write(lambda c: open_case(c, reviewer, comparison_id, side, now))


def test_a_case_is_the_same_whenever_it_is_opened(store, disputed):
    first = opened(store, "rev", disputed.id)
    again = opened(store, "rev", disputed.id, side="a")
    assert first == again
    assert (first.shown_first, first.decided) == ("b", None)
    assert opened(store, "other", disputed.id).token != first.token


def test_two_windows_at_once_open_one_case(store, disputed):
    with ThreadPoolExecutor(8) as threads:
        cases = list(threads.map(lambda _: opened(store, "rev", disputed.id), range(8)))
    assert len({case.token for case in cases}) == 1
    assert store.verify() == []


def test_a_decision_is_a_vote_of_its_own_outside_k(store, disputed):
    case = opened(store, "rev", disputed.id)
    desk = Desk(store.leases(), plan(want=0))
    stored = desk.vote("rev", case.token, "a", rationale="b invents").vote
    assert (stored.task_id, stored.late) == (case.task_id, False)
    (label,) = [task for task in store.tasks() if task.kind == "label"]
    assert sorted(label.choices) == ["a", "b"]
    with store.database.reading() as connection:
        assert case_of(connection, "rev", disputed.id).decided == stored.id
    assert inbox(store.database, "rev") == ([], 0)
    (decided,), total = inbox(store.database, "rev", decided=True)
    assert (total, decided.n_adjudicated, decided.mine, decided.voted) == (1, 1, True, False)
    assert store.verify() == []
    assert store.replay() == []


def test_a_case_is_decided_once_and_a_repeated_request_changes_nothing(store, disputed):
    case = opened(store, "rev", disputed.id)
    desk = Desk(store.leases(), plan(want=0))
    own = str(uuid.uuid4())
    first = desk.vote("rev", case.token, "a", vote_id=own).vote
    assert desk.vote("rev", case.token, "a", vote_id=own).vote.id == first.id
    with pytest.raises(Spent):
        desk.vote("rev", case.token, "b")
    decisions = [each for each in task_history(store.database, disputed.id)
                 if each.task_kind == "adjudicate" and each.kind == "vote"]  # fmt: skip
    assert len(decisions) == 1


def test_who_voted_on_a_pair_cannot_open_it(store, disputed):
    with pytest.raises(NotForYou, match="you voted on this pair"):
        opened(store, "kim", disputed.id)


def test_pairs_without_all_their_votes_and_unknown_ones_cannot_be_opened(store):
    (comparison,) = pairs(1)
    store.add([comparison], k=2)
    store.add_votes([vote(comparison, "kim")])
    with pytest.raises(NotForYou, match="1 of 2 votes"):
        opened(store, "rev", comparison.id)
    with pytest.raises(NotForYou, match="not in the store"):
        opened(store, "rev", "nothing")


def test_an_open_case_is_no_pair_on_the_rater_page(store, disputed):
    opened(store, "rev", disputed.id)
    assert Desk(store.leases(), plan(lanes=(0, 1, 2))).next("rev").held == ()
    assert store.verify() == []


def flagged(store):
    """A comparison that wants two votes, has one, and was flagged by who cast it."""
    (comparison,) = pairs(1)
    store.add([comparison], k=2)
    desk = Desk(store.leases(), plan())
    lease = desk.next("kim").held[0]
    desk.leases.flag("kim", str(uuid.uuid4()), comparison.id, on=True).result(30)
    desk.vote("kim", lease, "a")
    return comparison


def test_who_opened_a_pair_that_wants_votes_is_not_served_it_as_a_rater(store):
    comparison = flagged(store)
    desk = Desk(store.leases(), plan(lanes=(0, 1, 2)))
    opened(store, "rev", comparison.id)
    outcome = desk.next("rev")
    assert (outcome.held, outcome.state) == ((), "done")
    assert store.progress("rev", store.n_open()).left == 0
    assert desk.next("lee").held[0].task.id == comparison.id
    assert store.progress("lee", store.n_open()).left == 1


def test_who_holds_a_pair_as_a_rater_cannot_open_it(store):
    comparison = flagged(store)
    assert Desk(store.leases(), plan()).next("rev").held[0].task.id == comparison.id
    with pytest.raises(NotForYou, match="you have this pair to label"):
        opened(store, "rev", comparison.id)


def test_a_decision_is_final_and_no_part_of_the_raters_own_work(store, disputed):
    desk = Desk(store.leases(), plan(want=0))
    case = opened(store, "rev", disputed.id)
    assert store.counts().open == 0  # a case that waits is no task that raters are wanted for
    stored = desk.vote("rev", case.token, "a").vote
    assert desk.undo("rev").vote is None
    assert store.history("rev") == []
    assert store.progress("rev", store.n_open()).done == 0
    found = store.counts()
    assert (found.tasks, found.done, found.votes) == (1, 1, 3)
    assert stored.id in {vote.id for vote in store.votes()}
