"""Pairs are drawn before they are asked for: by a thread that is there as long as the app is."""

from __future__ import annotations

import threading
import time
import uuid

import pytest
from store_cases import pairs

from prefkit.annotation.session import Judged, Session
from prefkit.annotation.settings import AnnotateSettings
from prefkit.annotation.warming import Warmer
from prefkit.core.errors import StoreError
from prefkit.settings import parse_settings
from prefkit.store import VoteStore

SETTINGS = parse_settings(AnnotateSettings, {"repeat_rate": 0})


def wait_until(true):
    ends = time.monotonic() + 20
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.005)


@pytest.fixture
def readers(monkeypatch):
    """comparison id → the threads that read it, in their order."""
    found = {}
    read = VoteStore.comparison

    def comparison(store, comparison_id):
        found.setdefault(comparison_id, []).append(threading.current_thread().name)
        return read(store, comparison_id)

    monkeypatch.setattr(VoteStore, "comparison", comparison)
    return found


def label(session, outcome):
    """Vote on the pair in view; what comes of it."""
    lease = outcome.held[0]
    return session.vote("kim", Judged(str(uuid.uuid4()), lease.token, "1")).result(30)


def test_the_pair_that_a_vote_brings_was_drawn_by_the_thread(tmp_path, readers):
    with VoteStore.open(tmp_path / "votes.db") as store:
        store.add(pairs(12))
        session = Session(store, SETTINGS)
        outcome = session.next("kim").result(30)
        with session.warmer:
            session.view("kim", outcome)
            wait_until(lambda: len(readers) == 10)
            for _ in range(6):
                outcome = label(session, outcome)
                pair = session.view("kim", outcome).pairs[-1]
                assert readers[pair.task_id] == ["warmer"]
            wait_until(lambda: len(readers) == 12)
        assert all(len(by) == 1 for by in readers.values())


def test_without_the_thread_a_pair_is_drawn_when_it_is_shown(tmp_path, readers):
    with VoteStore.open(tmp_path / "votes.db") as store:
        store.add(pairs(12))
        session = Session(store, SETTINGS)
        view = session.view("kim", session.next("kim").result(30))
        assert sorted(readers) == sorted(pair.task_id for pair in view.pairs)
        assert "warmer" not in {name for by in readers.values() for name in by}


def test_it_goes_on_after_a_fault_of_the_store_and_ends_with_the_context():
    drawn = []

    def coming(rater):
        if rater == "lee":
            raise StoreError("the store is away")
        return [f"{rater}1", f"{rater}2"]

    warmer = Warmer(coming, drawn.append)
    warmer.wish("early")  # nobody there yet
    with warmer:
        for rater in ("lee", "kim"):
            warmer.wish(rater)
        wait_until(lambda: len(drawn) == 2)
    warmer.wish("late")
    assert drawn == ["kim1", "kim2"]
    assert "warmer" not in {thread.name for thread in threading.enumerate()}


def test_the_end_does_not_wait_for_all_that_was_wished():
    started, go_on, drawn = threading.Event(), threading.Event(), []

    def draw(comparison_id):
        drawn.append(comparison_id)
        started.set()
        assert go_on.wait(20)

    with Warmer(lambda rater: [f"{n}" for n in range(1000)], draw) as warmer:
        warmer.wish("kim")
        assert started.wait(20)
        threading.Timer(0.05, go_on.set).start()
    assert len(drawn) < 3


def test_many_wishes_of_one_rater_are_one():
    held, go_on, asked = threading.Event(), threading.Event(), []

    def coming(rater):
        asked.append(rater)
        held.set()
        assert go_on.wait(20)
        return []

    with Warmer(coming, lambda comparison_id: None) as warmer:
        warmer.wish("kim")
        assert held.wait(20)
        for _ in range(50):
            warmer.wish("kim")
            warmer.wish("lee")
        go_on.set()
        wait_until(lambda: len(asked) == 3)
    assert asked == ["kim", "kim", "lee"]
