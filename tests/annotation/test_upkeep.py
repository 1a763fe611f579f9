"""The store made ready: guidelines, gold and order as the settings say; jobs that go on."""

from __future__ import annotations

import json
import threading

import pytest
import tampering
from lease_cases import Desk, plan
from store_cases import pairs, vote

from prefkit.annotation.settings import AnnotateSettings
from prefkit.annotation.upkeep import Reorder, Upkeep, arrange, prepare
from prefkit.core.errors import DataError, StoreError
from prefkit.settings import parse_settings
from prefkit.store import VoteStore


@pytest.fixture
def store(tmp_path):
    with VoteStore.open(tmp_path / "votes.db") as opened:
        opened.add(pairs(30))
        yield opened


def settings_of(**words):
    return parse_settings(AnnotateSettings, words)


def kinds(tmp_path):
    query = "SELECT kind, payload FROM events WHERE rater = 'system' ORDER BY seq"
    return [
        (r["kind"], json.loads(r["payload"])) for r in tampering.rows(tmp_path / "votes.db", query)
    ]


def test_a_plain_store_needs_no_new_order(store, tmp_path):
    settings = settings_of()
    assert prepare(store, settings) == 0
    assert prepare(store, settings) == 0
    assert kinds(tmp_path) == [("guidelines_set", {"version": settings.guideline_version})]
    assert store.guidelines(settings.guideline_version) == settings.guidelines


def test_gold_from_a_file_is_there_once_with_its_better_side(store, tmp_path):
    rows = [
        {"prompt": "1 + 1?", "a": "2", "b": "3", "choice": "a"},
        {"prompt": "1 + 2?", "a": "2", "b": "3", "choice": "b"},
    ]
    (tmp_path / "gold.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = settings_of(gold=str(tmp_path / "gold.jsonl"))
    prepare(store, settings)
    prepare(store, settings)
    gold = [task for task in store.tasks() if task.kind == "gold"]
    better = {
        getattr(store.comparison(task.comparison_id), task.gold).text: task.comparison_id
        for task in gold
    }
    assert sorted(better) == ["2", "3"]
    assert len(gold) == 2
    assert store.counts().comparisons == 30


def test_a_gold_row_without_a_choice_is_named(store, tmp_path):
    (tmp_path / "gold.jsonl").write_text('{"prompt": "q", "a": "x", "b": "y"}\n')
    with pytest.raises(DataError, match=r"gold.jsonl:1: choice is None; expected a or b"):
        prepare(store, settings_of(gold=str(tmp_path / "gold.jsonl")))


def test_another_order_moves_tasks_is_noted_and_starts_everybody_anew(store, tmp_path):
    desk = Desk(store.leases(), plan(lanes=(1, 0)))
    first = desk.next("kim").held[0]
    desk.vote("kim", first)
    moved = arrange(store, settings_of(order="uncertain"))
    assert moved > 0
    assert arrange(store, settings_of(order="uncertain")) == 0
    (noted,) = [payload for kind, payload in kinds(tmp_path) if kind == "order"]
    assert (noted["order"], noted["slice"], noted["n_tasks"]) == ("uncertain", 0.2, moved)
    seen = {first.task.id}
    while held := desk.next("kim").held:
        seen.add(held[0].task.id)
        desk.vote("kim", held[0])
    assert len(seen) == 30
    assert store.verify() == []


def test_what_was_opened_again_stays_at_the_back(store):
    desk = Desk(store.leases(), plan())
    skipped = desk.next("kim").held[0]
    desk.vote("kim", skipped, "skip")
    assert prepare(store, settings_of()) == 0
    order = []
    while held := desk.next("lee").held:
        order.append(held[0].task.id)
        desk.vote("lee", held[0])
    assert order[-1] == skipped.task.id or order[-2] == skipped.task.id


def test_the_uncertain_are_put_in_order_again_after_enough_votes(store):
    given = store.comparisons()
    settings = settings_of(order="uncertain", k=3)
    store.want(3)
    arrange(store, settings)
    again = Reorder(store, settings)
    assert again() == 0
    store.add_votes([vote(c, rater) for c in given[:10] for rater in ("kim", "lee")])
    assert again() > 0
    assert again() == 0


def test_jobs_are_done_again_and_a_fault_stops_none(caplog):
    enough, n_done = threading.Event(), []

    def job():
        n_done.append(1)
        if len(n_done) == 3:
            enough.set()
        raise StoreError("the disk is away")

    with Upkeep([(0.01, job), (1000.0, enough.set)]):
        assert enough.wait(10)
    assert len(n_done) >= 3
    assert "the disk is away" in caplog.text
