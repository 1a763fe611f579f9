"""What a rater will probably be given is foretold, and foretelling takes nothing."""

from __future__ import annotations

from lease_cases import Clock, Desk, plan
from store_cases import pairs

from prefkit.store.leasing import GOLD, IN_ORDER, SLICE


def comparisons_of(outcome):
    return [lease.task.comparison_id for lease in outcome.held]


def test_what_is_foretold_is_what_is_given(store):
    store.add(pairs(8), k=2)
    desk = Desk(store.leases(clock=Clock()), plan(2))
    assert len(desk.leases.coming("kim", desk.plan, 8)) == 8  # somebody new
    outcome = desk.next("kim")
    for left in range(6, 0, -1):
        foretold = desk.leases.coming("kim", desk.plan, 3)
        assert len(foretold) == min(3, left)
        outcome = desk.vote("kim", outcome.held[0])
        assert comparisons_of(outcome)[-1] == foretold[0]
    assert desk.leases.coming("kim", desk.plan, 3) == []


def test_what_others_hold_is_not_foretold_and_foretelling_takes_nothing(store):
    store.add(pairs(4), k=1)
    desk = Desk(store.leases(clock=Clock()), plan(2))
    taken = comparisons_of(desk.next("lee"))
    n_events = store.counts().votes, store.revision()
    foretold = desk.leases.coming("kim", desk.plan, 9)
    assert len(foretold) == 2
    assert not set(foretold) & set(taken)
    assert (store.counts().votes, store.revision()) == n_events
    assert sorted(comparisons_of(desk.next("kim"))) == sorted(foretold)
    assert store.verify() == []


def test_each_lane_of_the_next_task_is_looked_at_in_its_order(store):
    store.add(pairs(6))
    leases = store.leases(clock=Clock())
    both = leases.coming("kim", plan(lanes=(GOLD, IN_ORDER, SLICE)), 2)
    assert both == leases.coming("kim", plan(lanes=(IN_ORDER,)), 2)
    assert leases.coming("kim", plan(lanes=(SLICE,)), 2) == []


def test_a_new_order_is_followed_from_its_start(store):
    store.add(pairs(6), k=2)
    desk = Desk(store.leases(clock=Clock()), plan(1))
    desk.vote("kim", desk.next("kim").held[0])
    store.add([*pairs(9)], k=2)
    # From the start again: what the rater had already is drawn already.
    assert len(desk.leases.coming("kim", desk.plan, 20)) == 9
