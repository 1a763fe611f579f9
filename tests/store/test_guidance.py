"""Guidelines: every text that was in force can be looked up, and each change is an event."""

from __future__ import annotations

import json
import threading
from contextlib import suppress

import pytest
import tampering
from store_cases import pairs, vote

from prefkit.annotation.guidelines import Guidelines, put_in_force
from prefkit.annotation.settings import AnnotateSettings
from prefkit.settings import parse_settings
from prefkit.store import VoteStore


def test_texts_are_kept_and_each_change_is_one_event(store, place):
    assert store.set_guidelines("v1", "Look at truth \u2713") is True
    assert store.set_guidelines("v1", "Look at truth \u2713") is False
    assert store.set_guidelines("v2", "nul \x00 and \ud800") is True
    assert store.set_guidelines("v1", "Look at truth \u2713") is True  # back to the first
    assert store.guidelines("v1") == "Look at truth \u2713"
    assert store.guidelines("v2") == "nul \ufffd and \ufffd"
    assert store.guidelines("v3") is None
    rows = tampering.rows(place, "SELECT rater, kind, payload FROM events ORDER BY seq")
    assert [(r["rater"], r["kind"]) for r in rows] == [("system", "guidelines_set")] * 3
    assert [json.loads(r["payload"])["version"] for r in rows] == ["v1", "v2", "v1"]
    assert store.verify() == []


@pytest.mark.postgres
def test_two_leads_who_add_an_example_at_once_lose_neither(address, monkeypatch):
    settings, given = parse_settings(AnnotateSettings, {}), pairs(2)
    both, found = threading.Barrier(2), Guidelines._found

    def slowly(self, connection):
        seen = found(self, connection)
        with suppress(threading.BrokenBarrierError):
            both.wait(1)  # as long as neither has to wait for the other
        return seen

    with VoteStore.open(address) as store:
        store.add(given)
        put_in_force(store, settings)
        monkeypatch.setattr(Guidelines, "_found", slowly)
        adding = [
            threading.Thread(
                target=Guidelines(store, settings).add_example, args=(c, vote(c), "", "u1")
            )
            for c in given
        ]
        for thread in adding:
            thread.start()
        for thread in adding:
            thread.join()
        monkeypatch.undo()
        text = Guidelines(store, settings).look().text
        assert [f"> {c.prompt.text}" in text for c in given] == [True, True]
        assert store.verify() == []
