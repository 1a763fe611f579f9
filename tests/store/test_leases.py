"""Leases: exactly k votes, nobody twice, nothing lost, whoever is slow or comes back."""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter

import pytest
import tampering
from lease_cases import Clock, Desk, plan
from store_cases import pair, pairs, vote

from prefkit.store import VoteStore, finding
from prefkit.store.leases import Spent
from prefkit.store.shown import IdTaken, NotServed


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def desk(store, clock):
    return Desk(store.leases(clock=clock))


def test_a_rater_holds_the_same_pair_until_they_vote_and_never_has_it_again(store, desk):
    given = pairs(5)
    store.add(given)
    seen = []
    while (now := desk.next("kim")).held:
        assert desk.next("kim").held == now.held
        seen.append(now.held[0].task.id)
        desk.vote("kim", now.held[0])
    assert now.state == "done"
    assert sorted(seen) == sorted(c.id for c in given)
    assert seen != [c.id for c in given]


def test_all_raters_share_one_shuffle(store, desk):
    store.add(pairs(12), k=3)
    orders = {"kim": [], "lee": []}
    for rater, order in orders.items():
        while held := desk.next(rater).held:
            order.append(held[0].task.id)
            desk.vote(rater, held[0])
    assert orders["kim"] == orders["lee"]


def test_a_task_is_held_by_no_more_than_k_and_the_others_wait(store, desk):
    store.add(pairs(1), k=2)
    kim, lee = desk.next("kim").held[0], desk.next("lee").held[0]
    assert desk.next("mia").state == "waiting"
    assert desk.vote("kim", kim).done.vote.late is False
    assert desk.next("mia").state == "waiting"
    assert desk.vote("lee", lee).done.vote.late is False
    assert desk.next("mia").state == "done"
    assert store.counts().done == 1
    assert store.verify() == []


def test_two_are_held_where_two_are_wanted_the_older_first(store, clock):
    store.add(pairs(4))
    desk = Desk(store.leases(clock=clock), plan(2))
    first = desk.next("kim")
    assert len({lease.task.id for lease in first.held}) == 2
    clock.pass_(seconds=5)
    after = desk.vote("kim", first.held[0])
    assert after.held[0].token == first.held[1].token
    assert after.held[1].task.id not in {lease.task.id for lease in first.held}


def test_a_vote_sent_again_is_answered_as_before_and_counts_once(store, desk):
    store.add(pairs(3))
    lease, own = desk.next("kim").held[0], str(uuid.uuid4())
    first = desk.vote("kim", lease, vote_id=own)
    again = desk.vote("kim", lease, vote_id=own)
    assert (first.done.fresh, again.done.fresh) == (True, False)
    assert (again.vote.id, again.held) == (own, first.held)
    assert len(store.votes()) == 1
    assert store.verify() == []


def test_tokens_and_ids_of_others_are_refused_and_change_nothing(store, desk):
    store.add(pairs(3), k=2)
    lease, own = desk.next("kim").held[0], str(uuid.uuid4())
    lees = desk.next("lee").held[0]
    for token in (str(uuid.uuid4()), lees.token):
        with pytest.raises(NotServed):
            desk.vote("kim", token)
    desk.vote("kim", lease, vote_id=own)
    with pytest.raises(IdTaken):
        desk.vote("lee", lees, vote_id=own)
    with pytest.raises(IdTaken):
        desk.vote("kim", desk.next("kim").held[0], vote_id=own)
    with pytest.raises(IdTaken):
        desk.undo("lee", own)
    with pytest.raises(IdTaken):
        desk.leases.flag("kim", own, lease.task.id, on=True).result(30)
    assert len(store.votes()) == 1
    assert store.verify() == []


def test_a_token_is_good_for_one_vote_and_a_revision_says_what_it_replaces(store, desk):
    store.add(pairs(2), k=1)
    lease = desk.next("kim").held[0]
    first = desk.vote("kim", lease, "a").vote
    with pytest.raises(Spent):
        desk.vote("kim", lease, "b")
    with pytest.raises(Spent):
        desk.vote("kim", lease, "b", replaces=str(uuid.uuid4()))
    changed = desk.vote("kim", lease, "b", replaces=first.id).vote
    assert (changed.replaces, changed.late) == (first.id, False)
    assert store.counts().choices == {"b": 1}
    assert store.verify() == []


def test_who_is_too_slow_loses_the_place_and_not_the_vote(store, desk, clock):
    store.add(pairs(1))
    slow = desk.next("kim").held[0]
    clock.pass_(minutes=11)
    quick = desk.next("lee").held[0]
    assert quick.task.id == slow.task.id
    assert desk.vote("lee", quick).vote.late is False
    late = desk.vote("kim", slow, "b")
    assert late.vote.late is True
    assert (store.counts().done, len(store.votes())) == (1, 2)
    assert store.verify() == []


def test_a_slow_vote_is_on_time_while_its_place_is_free(store, desk, clock):
    store.add(pairs(1))
    slow = desk.next("kim").held[0]
    clock.pass_(minutes=11)
    assert desk.leases.reap() == 1
    assert desk.leases.reap() == 0
    assert desk.vote("kim", slow).vote.late is False
    assert desk.next("lee").state == "done"
    assert store.verify() == []


def test_who_comes_back_after_hours_has_the_same_pair_and_sides(place, tmp_path, clock):
    with VoteStore.open(place, home=tmp_path) as store:
        store.add(pairs(6))
        before = Desk(store.leases(clock=clock), plan(side="b")).next("kim").held[0]
    clock.pass_(hours=9)
    with VoteStore.open(place, home=tmp_path) as store:
        store.leases(clock=clock).reap()
        after = Desk(store.leases(clock=clock), plan(side="a")).next("kim").held[0]
        assert (after.token, after.task, after.shown_first) == (before.token, before.task, "b")
        assert after.live
        assert store.verify() == []


def test_who_comes_back_to_a_place_that_is_gone_has_another_pair(store, desk, clock):
    store.add(pairs(2))
    slow = desk.next("kim").held[0]
    clock.pass_(hours=1)
    desk.leases.reap()
    lees = [desk.next("lee").held[0]]
    lees.append(desk.vote("lee", lees[0]).held[0])
    taken = next(lease for lease in lees if lease.task.id == slow.task.id)
    if taken is lees[1]:
        desk.vote("lee", taken)
    now = desk.next("kim")
    assert all(lease.task.id != slow.task.id for lease in now.held)
    assert store.verify() == []


def test_a_sign_of_life_keeps_the_place(store, desk, clock):
    store.add(pairs(1))
    lease = desk.next("kim").held[0]
    for _ in range(5):
        clock.pass_(minutes=9)
        assert desk.leases.beat("kim", [lease.token], desk.plan.ttl).result(30) == 1
        assert desk.leases.beat("lee", [lease.token], desk.plan.ttl).result(30) == 0
        assert desk.next("lee").state == "waiting"
    assert desk.vote("kim", lease).vote.late is False


def test_an_undo_brings_the_pair_back_first_with_the_same_side(store, clock):
    store.add(pairs(4))
    desk = Desk(store.leases(clock=clock), plan(2, side="b"))
    first = desk.next("kim").held[0]
    clock.pass_(seconds=3)
    desk.vote("kim", first)
    other, undo_id = Desk(desk.leases, plan(2, side="a")), str(uuid.uuid4())
    back = other.undo("kim", undo_id)
    assert (back.vote.choice, back.held[0].task, back.held[0].shown_first) == (
        "withdrawn", first.task, "b",
    )  # fmt: skip
    again = other.undo("kim", undo_id)
    assert (again.done.fresh, again.held) == (False, back.held)
    assert desk.next("lee").held[0].task.id != first.task.id
    assert desk.vote("kim", back.held[0], "b").vote.late is False
    assert store.counts().choices == {"b": 1}
    assert store.verify() == []


def test_an_undo_of_nothing_changes_nothing(store, desk):
    store.add(pairs(1))
    assert desk.undo("kim").vote is None
    assert store.votes() == []


def test_the_undo_of_a_late_vote_makes_no_place(store, desk, clock):
    store.add(pairs(1))
    slow = desk.next("kim").held[0]
    clock.pass_(minutes=11)
    desk.vote("lee", desk.next("lee").held[0])
    desk.vote("kim", slow)
    back = desk.undo("kim")
    assert [lease.live for lease in back.held] == [False]
    assert desk.vote("kim", back.held[0]).vote.late is True
    assert store.verify() == []


def test_a_skipped_task_goes_behind_the_others_and_is_met_by_all(store, desk):
    store.add(pairs(3))
    first = desk.next("kim").held[0]
    second = desk.vote("kim", first, "skip").held[0]
    desk.vote("kim", second)
    lees = []
    while held := desk.next("lee").held:
        lees.append(held[0].task.id)
        desk.vote("lee", held[0])
    assert lees[-1] == first.task.id
    assert desk.next("kim").held[0].task.id not in {first.task.id, second.task.id, *lees[:-1]}


def test_a_place_that_is_given_back_is_found_by_those_who_had_passed_it(store, desk, clock):
    store.add(pairs(4))
    lost = desk.next("kim").held[0]
    while held := desk.next("lee").held:
        desk.vote("lee", held[0])
    assert desk.next("lee").state == "waiting"
    clock.pass_(minutes=11)
    found = desk.next("lee")
    assert [lease.task.id for lease in found.held] == [lost.task.id]


def test_tasks_that_are_added_and_a_larger_k_are_met_by_those_at_the_end(store, desk):
    store.add(pairs(3))
    for rater in ("kim", "lee"):
        while held := desk.next(rater).held:
            desk.vote(rater, held[0])
    store.add(pairs(6))
    assert desk.next("kim").state == "ready"
    while held := desk.next("kim").held:
        desk.vote("kim", held[0])
    assert desk.next("lee").state == "done"
    store.want(2)
    while held := desk.next("lee").held:
        desk.vote("lee", held[0])
    assert store.counts().done == 6
    assert store.verify() == []


def test_a_rater_of_many_tasks_looks_at_some_at_a_time_and_finds_the_last(
    store, desk, clock, monkeypatch
):
    monkeypatch.setattr(finding, "AHEAD", 1)
    monkeypatch.setattr(finding, "WINDOW", 3)
    monkeypatch.setattr(finding, "_STEPS", 4)
    given = pairs(60)
    store.add(given, k=2)
    kept = []
    while held := desk.next("kim").held:
        desk.vote("kim", held[0])
    store.add([*given, pair("one more")], k=2)  # everybody begins at the start again
    for _ in range(20):
        now = desk.next("kim")
        kept.append(now.state)
        assert now.soon == (now.state == "waiting")
        if now.held:
            break
    assert (kept[0], kept[-1]) == ("waiting", "ready")
    assert store.comparisons()[-1].id == now.held[0].task.id


def test_a_flag_goes_on_and_off_and_its_note_can_be_erased(store, desk, place):
    store.add(pairs(1))
    kim = store.rater_id("kim")
    task_id = desk.next(kim).held[0].task.id
    event_id = str(uuid.uuid4())
    for _ in range(2):
        desk.leases.flag(kim, event_id, task_id, on=True, note="a slur in A").result(30)
    (flag,) = tampering.rows(place, "SELECT * FROM flags")
    assert (flag["task_id"], flag["note_id"]) == (task_id, event_id)
    assert store.verify() == []
    with pytest.raises(NotServed):
        desk.leases.flag("lee", str(uuid.uuid4()), task_id, on=True).result(30)
    assert store.erase("kim", words=True).n_texts == 1
    assert store.verify() == []
    desk.leases.flag(kim, str(uuid.uuid4()), task_id, on=False).result(30)
    assert tampering.rows(place, "SELECT * FROM flags") == []
    assert store.verify() == []


def test_gold_is_shown_to_all_and_counts_for_nothing(store, clock):
    work, gold = pairs(3), pair("what is 1 + 1?")
    store.add(work)
    assert store.add_gold([(gold, "b")]) == 1
    assert store.add_gold([(gold, "b")]) == 0
    desk = Desk(store.leases(clock=clock), plan(lanes=(2, 1)))
    for rater in ("kim", "lee", "mia"):
        held = desk.next(rater).held[0]
        assert (held.task.kind, held.task.comparison_id) == ("gold", gold.id)
        desk.vote(rater, held, "b")
    assert store.votes() == []
    assert {v.choice for v in store.votes(hidden=True)} == {"b"}
    assert store.comparisons() == work
    counts = store.counts()
    assert (counts.comparisons, counts.tasks, counts.votes, counts.standing) == (3, 3, 0, 0)
    assert [t.gold for t in store.tasks() if t.kind == "gold"] == ["b"]
    assert store.verify() == []


def test_a_repeat_is_a_task_of_its_own_with_sides_swapped_and_outside_k(store, clock):
    store.add(pairs(40), k=2)
    desk = Desk(store.leases(clock=clock), plan(side="a"))
    order = []
    for _ in range(25):
        held = desk.next("kim").held[0]
        order.append(held.task.id)
        desk.vote("kim", held)
    due = Desk(desk.leases, plan(side="a", repeat=True))
    due.vote("kim", desk.next("kim").held[0])  # that was held already; the repeat comes after it
    repeat = due.next("kim").held[0]
    assert (repeat.task.kind, repeat.shown_first) == ("repeat", "b")
    assert repeat.task.id != repeat.task.comparison_id
    assert repeat.task.comparison_id in order[:7]
    n_votes = len(store.votes())
    desk.vote("kim", repeat)
    assert (len(store.votes()), len(store.votes(hidden=True))) == (n_votes, n_votes + 1)
    assert store.counts().tasks == 40
    assert repeat.task.id not in {lease.task.id for lease in desk.next("lee").held}
    assert store.verify() == []


def test_votes_that_leave_it_open_ask_for_more_and_say_so(store, clock, place):
    store.add(pairs(1), k=2)

    def wanted(choices, k):
        return k + 1 if len(choices) == k and len(set(choices)) > 1 and k < 3 else k

    desk = Desk(store.leases(wanted, clock))
    for rater, choice in (("kim", "a"), ("lee", "b"), ("mia", "a")):
        held = desk.next(rater).held[0]
        assert desk.vote(rater, held, choice).vote.late is False
    assert desk.next("noa").state == "done"
    payloads = tampering.rows(place, "SELECT payload FROM events WHERE kind = 'vote' ORDER BY seq")
    said = [json.loads(row["payload"]).get("k_after") for row in payloads]
    assert said == [None, 3, None]
    assert store.want(2, most=3) == 0
    assert store.verify() == []


@pytest.mark.parametrize("machine_first", [True, False])
def test_a_machine_takes_no_place_that_a_person_holds_or_has(store, desk, machine_first):
    (only,) = pairs(1)
    store.add([only])
    lease = desk.next("kim").held[0]
    judged = vote(only, "rule:x", "b", rater_kind="rule")
    if machine_first:
        store.vote(judged)
    assert desk.vote("kim", lease).vote.late is False
    assert store.vote(judged).late is True
    assert [v.late for v in store.votes() if v.rater == "kim"] == [False]
    assert [task.choices for task in store.tasks()] == [("a",)]
    assert store.verify() == []


def test_a_machine_that_comes_first_has_the_place(store, desk):
    (only,) = pairs(1)
    store.add([only])
    assert store.vote(vote(only, "rule:x", rater_kind="rule")).late is False
    assert desk.next("kim").state == "done"


def test_a_vote_behind_the_back_of_a_lease_harms_nothing(store, desk, clock):
    (only,) = pairs(1)
    store.add([only], k=2)
    lease = desk.next("kim").held[0]
    store.vote(vote(only, "kim"))
    assert store.undo("kim", "undo-1").choice == "withdrawn"
    store.vote(vote(only, "kim"))
    back = desk.undo("kim")
    assert [held.task.id for held in back.held] == [lease.task.id]
    assert store.verify() == []
    assert desk.vote("kim", back.held[0]).vote.late is False
    assert store.verify() == []


def test_raters_in_many_threads_leave_exactly_k_votes_on_time(store):
    given = pairs(15)
    store.add(given, k=3)
    failed, skipping = [], ("rater-0", "rater-3", "rater-6")

    def label(rater):
        desk = Desk(store.leases(), plan(2))
        try:
            while (now := desk.next(rater)).state != "done":
                if now.held:
                    desk.vote(rater, now.held[0], "skip" if rater in skipping else "tie")
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=label, args=(f"rater-{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    cast = [v for v in store.votes() if v.choice != "skip"]
    on_time = Counter(v.comparison_id for v in cast if not v.late)
    assert on_time == {c.id: 3 for c in given}
    assert len({(v.task_id, v.rater) for v in store.votes()}) == len(store.votes())
    assert store.verify() == []
