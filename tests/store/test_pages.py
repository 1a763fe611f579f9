"""Pages for programs: the work and nothing else, and nothing that comes too late to be seen."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from lease_cases import Desk, plan
from store_cases import pair, pairs, vote

from prefkit.store import VoteStore, ledger
from prefkit.store.pages import comparisons_after, votes_after


def test_gold_items_and_hidden_repeats_are_in_no_page(store):
    work, gold = pairs(25), pair("what is 1 + 1?")
    store.add(work)
    store.add_gold([(gold, "b")])
    desk = Desk(store.leases(), plan(lanes=(2, 1), repeat=True))
    kinds = []
    for _ in range(27):
        held = desk.next("kim").held[0]
        kinds.append(held.task.kind)
        desk.vote("kim", held)
    assert {"label", "gold", "repeat"} == set(kinds)
    found = votes_after(store.database, 0, 100)
    assert [vote for _, vote, _ in found] == store.votes()
    assert len(found) == kinds.count("label")
    assert [c for _, c in comparisons_after(store.database, 0, 100)] == work
    half = votes_after(store.database, 0, 10)
    rest = votes_after(store.database, half[-1][0], 100)
    assert half + rest == found


@pytest.mark.postgres
@pytest.mark.parametrize("n_events", [1, 2])
def test_a_page_waits_for_smaller_numbers_that_come_later_and_stops_nobody(address, n_events):
    given = pairs(4)
    slow = [vote(c, "slow") for c in given[:n_events]]
    begun, go_on, read = threading.Event(), threading.Event(), []

    def slowly(connection):
        written = ledger.append(connection, slow)
        begun.set()
        go_on.wait(30)
        return written

    with VoteStore.open(address) as store:
        store.add(given)
        writing = store.database.submit(slowly)
        assert begun.wait(30)
        later = vote(given[2], "quick", at=datetime.now(UTC))
        store.vote(later)
        reader = threading.Thread(target=lambda: read.extend(votes_after(store.database, 0, 10)))
        reader.start()
        reader.join(0.5)
        assert reader.is_alive(), [v.id for _, v, _ in read]
        store.database.submit(lambda c: ledger.append(c, [vote(given[3], "mia")])).result(5)
        assert reader.is_alive()
        go_on.set()
        writing.result(30)
        reader.join(30)
    assert [v.id for _, v, _ in read] == [*(v.id for v in slow), later.id]
