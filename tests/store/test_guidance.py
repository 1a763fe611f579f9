"""Guidelines: every text that was in force can be looked up, and each change is an event."""

from __future__ import annotations

import json

import tampering


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
