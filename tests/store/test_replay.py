"""The views follow from the events: replayed they are what was written live."""

from __future__ import annotations

import tempfile
import threading
from datetime import UTC, datetime

import pytest
import tampering
from hypothesis import given, settings
from hypothesis import strategies as st
from lease_cases import Clock, Desk, plan
from store_cases import pairs, vote

from prefkit.store import VoteStore, chain, ledger, replaying
from prefkit.store.chain import NewEvent

COMPARISONS = pairs(4)
RATERS = ("kim", "lee", "rule:format")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["vote", "vote", "skip", "undo", "serve", "batch", "k", "again"]),
        st.sampled_from(RATERS),
        st.integers(0, 3),
        st.sampled_from(["a", "b", "tie", "both_bad", "invalid"]),
    ),
    max_size=25,
)


def _run(store, steps):
    written = []
    for number, (what, rater, index, choice) in enumerate(steps):
        kind = "rule" if ":" in rater else "human"
        comparison = COMPARISONS[index]
        if what in ("vote", "skip"):
            said = "skip" if what == "skip" else choice
            words = "because" if choice == "tie" else None
            cast = vote(comparison, rater, said, rater_kind=kind, rationale=words)
            written.append(store.vote(cast))
        elif what == "undo":
            store.undo(rater, f"undo-{number}")
        elif what == "serve":
            Desk(store.leases(), plan(side="ab"[index % 2])).next(rater)
        elif what == "batch":
            store.add_votes([vote(c, rater, choice, rater_kind=kind) for c in COMPARISONS])
        elif what == "k":
            store.want(1 + index)
        elif written:
            store.add_votes([written[index % len(written)]])


@settings(max_examples=40)
@given(steps=STEPS)
def test_a_replay_gives_the_live_views_whatever_was_done(steps):
    with tempfile.TemporaryDirectory() as folder, VoteStore.open(f"{folder}/votes.db") as store:
        store.add(COMPARISONS, k=2)
        _run(store, steps)
        assert store.replay() == []
        assert store.verify() == []
        votes, counts = store.votes(), store.counts()
        tampering.run(
            f"{folder}/votes.db",
            *("DELETE FROM standing", "DELETE FROM votes", "DELETE FROM served"),
            *("UPDATE tasks SET n_done = 7", "UPDATE raters SET n = 0, n_served = 3"),
        )
        assert store.replay(write=True) != []
        assert store.verify() == []
        assert (store.votes(), store.counts()) == (votes, counts)


def test_a_replay_mends_the_views_and_leaves_them_guarded(store, place):
    store.add(COMPARISONS, k=2)
    steps = [("batch", rater, 0, "a") for rater in RATERS] + [("undo", "kim", 0, "a")]
    _run(store, [*steps, ("serve", "lee", 1, "a")])
    votes = store.votes()
    tampering.run(place, "DELETE FROM standing", "DELETE FROM votes WHERE rater = 'kim'")
    said = store.replay()
    assert sum("the vote is gone" in line for line in said) == 5
    assert store.votes() != votes
    assert store.replay(write=True) == said
    assert store.replay() == []
    assert store.votes() == votes
    assert store.vote(vote(COMPARISONS[0], "kim", "b")).choice == "b"
    assert store.verify() == []


def test_flags_follow_from_events_and_are_mended(store, place):
    store.add(COMPARISONS)
    now = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    database = store._db

    def flag(number, on, note=None):
        def work(connection):
            rows = chain.lock_raters(connection, ["kim"])
            payload = {"on": on} | ({"note": note} if note else {})
            event = NewEvent(f"flag-{number}", "kim", "flag", COMPARISONS[number].id, now, payload)
            chain.append(connection, rows, [event])
            chain.save(connection, rows.values())

        database.write(work)

    flag(0, on=True)
    flag(1, on=True, note="digest")
    missing = store.replay()
    assert [line.endswith("the flag is not what the events say") for line in missing] == [True] * 2
    store.replay(write=True)
    assert [(row["task_id"], row["note_id"]) for row in tampering.rows(
        place, "SELECT * FROM flags ORDER BY note_id IS NULL DESC"
    )] == [(COMPARISONS[0].id, None), (COMPARISONS[1].id, "flag-1")]  # fmt: skip
    assert store.replay() == []


def test_raters_who_write_at_once_leave_one_order(store):
    store.add(COMPARISONS, k=2)

    def label(rater):
        for comparison in COMPARISONS * 3:
            store.vote(vote(comparison, rater, "tie"))

    threads = [threading.Thread(target=label, args=(f"rater-{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.votes()) == 6 * 12
    assert store.verify() == []


def test_the_same_id_from_two_raters_at_once_is_one_vote(store):
    store.add(COMPARISONS, k=9)
    ids = [f"id-{i}" for i in range(30)]

    def label(rater):
        for number in ids:
            store.add_votes([vote(COMPARISONS[0], rater, id=number)])

    threads = [threading.Thread(target=label, args=(rater,)) for rater in ("kim", "lee")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(v.id for v in store.votes()) == sorted(ids)
    assert store.verify() == []


def test_an_event_that_cannot_be_read_is_a_fault_with_its_place(store, place):
    store.add(COMPARISONS)
    store.vote(vote(COMPARISONS[0]))
    tampering.run(place, "UPDATE events SET payload = 'nonsense'")
    assert any("rater kim, event 1: cannot be read" in fault for fault in store.verify())


def test_fold_takes_events_of_other_kinds_as_they_are(store):
    views = ledger.Views()
    row = chain.RaterRow("system")
    now = datetime.now(UTC)
    for kind in ("k", "order", "guidelines_set", "gold", "erased", "guidelines"):
        event = chain.link(row, row.n + 1, NewEvent(kind, "system", kind, None, now, {}))
        row.take(event)
        ledger.fold(views, event)
    assert views.raters["system"].n == 6
    assert [views.votes, views.stands, views.served, views.flags] == [{}] * 4


@pytest.mark.postgres
def test_places_given_back_while_views_are_mended_are_not_taken_again(address, monkeypatch):
    clock, counted = Clock(), []
    with VoteStore.open(address) as store:
        store.add(COMPARISONS)
        desk = Desk(store.leases(clock=clock))
        desk.next("kim")
        clock.pass_(minutes=11)
        tampering.run(address, f"UPDATE tasks SET n_done = 7 WHERE id = '{COMPARISONS[0].id}'")
        reaper = threading.Thread(target=desk.leases.reap)
        held = replaying._held

        def slowly(connection):
            found = held(connection)
            counted.append(found)
            if len(counted) == 2:  # the count that the tasks are written by
                reaper.start()
                reaper.join(1)
            return found

        monkeypatch.setattr(replaying, "_held", slowly)
        assert store.replay(write=True) != []
        monkeypatch.undo()
        reaper.join(30)
        assert len(counted) == 2
        assert store.verify() == []
