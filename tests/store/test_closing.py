"""A store that is closed in the middle of work: all that was submitted is done, and it ends."""

from __future__ import annotations

import threading

import tampering
from lease_cases import plan
from store_cases import pairs


def test_who_is_answered_while_the_store_closes_may_have_the_chains_signed(store, place):
    store.add(pairs(300))
    started, go = threading.Event(), threading.Event()

    def hold(connection):
        started.set()
        go.wait(30)

    holding = store.database.submit(hold)
    assert started.wait(30)
    leases = store.leases()
    asked = [leases.next(f"rater-{number}", plan()) for number in range(250)]
    closing = threading.Thread(target=store.close, daemon=True)
    closing.start()
    closing.join(0.3)
    go.set()  # the two hundredth event, and with it a signature, comes while it closes
    closing.join(30)
    assert not closing.is_alive()
    assert all(future.done() for future in [holding, *asked])
    assert tampering.rows(place, "SELECT count(*) AS n FROM heads") != [{"n": 0}]
    assert store.verify() == []
