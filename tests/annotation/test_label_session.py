"""What a key means, which side is shown, and that nothing is lost or judged twice."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from dataclasses import replace

import pytest
import tampering
from hypothesis import given
from hypothesis import strategies as st
from store_cases import pair, pairs

from prefkit.annotation import progress as progress_module
from prefkit.annotation.session import KEYS, IdTaken, Judged, NotServed, Session, Spent, meaning
from prefkit.annotation.settings import AnnotateSettings
from prefkit.settings import parse_settings
from prefkit.store import VoteStore

SETTINGS = parse_settings(AnnotateSettings, {"repeat_rate": 0})
OTHER = {"a": "b", "b": "a"}
MIRROR = {**{str(n): str(8 - n) for n in range(1, 8)}, "x": "x", "i": "i", "s": "s"}


class Chair:
    """One rater before a session: the pair shown, votes and undos as the page sends them."""

    def __init__(self, store, rater="kim", settings=SETTINGS):
        self.session = Session(store, settings)
        self.rater = rater

    def look(self):
        return self.session.view(self.rater, self.session.next(self.rater).result(30))

    def pair(self):
        return next(iter(self.look().pairs), None)

    def vote(self, pair, key="1", **values):
        return self.send(Judged(str(uuid.uuid4()), pair.token, key, **values))

    def send(self, judged):
        return self.session.vote(self.rater, judged).result(30).vote

    def undo(self, undo_id=None):
        sent = self.session.undo(self.rater, undo_id or str(uuid.uuid4()))
        outcome = sent.result(30)
        return outcome.vote, self.session.view(self.rater, outcome).pairs


@pytest.fixture
def store(tmp_path):
    with VoteStore.open(tmp_path / "votes.db") as opened:
        yield opened


@given(st.sampled_from(KEYS), st.sampled_from("ab"))
def test_the_mirrored_key_on_swapped_sides_means_the_same(key, left):
    assert meaning(key, left) == meaning(MIRROR[key], OTHER[left])


@given(st.sampled_from("1234567"), st.sampled_from("ab"))
def test_strength_is_the_distance_from_the_middle(key, left):
    choice, strength = meaning(key, left)
    assert strength == abs(int(key) - 4)
    assert choice == ("tie" if key == "4" else left if key < "4" else OTHER[left])


def test_letters_have_no_strength():
    assert [meaning(key, "a") for key in "xis"] == [
        ("both_bad", None),
        ("invalid", None),
        ("skip", None),
    ]


def shown(pair):
    """A pair without the seconds that pass."""
    return replace(pair, expires_s=0)


def test_what_is_on_the_left_is_the_slot_that_the_vote_records(store):
    store.add([pair(f"q{i}", "alpha", "beta") for i in range(20)])
    texts = {c.id: {"a": c.a.text, "b": c.b.text} for c in store.comparisons()}
    kim = Chair(store)
    while now := kim.pair():
        vote = kim.vote(now, "2", active_ms=900, aspects={"style": "right", "safety": "tie"})
        left_text = texts[vote.comparison_id][vote.shown_first]
        assert left_text in now.left[0]["html"]
        assert texts[vote.comparison_id][vote.choice] == left_text
        assert vote.aspects == {"style": OTHER[vote.choice], "safety": "tie"}
        assert (vote.strength, vote.active_ms, vote.rater_kind) == (2, 900, "human")
        assert vote.guideline_version == SETTINGS.guideline_version
    assert len(store.votes()) == 20


def test_of_each_four_pairs_two_have_a_on_the_left_and_raters_differ(store):
    store.add(pairs(60), k=3)
    sides = {}
    for rater in ("kim", "lee"):
        chair = Chair(store, rater)
        while now := chair.pair():
            vote = chair.vote(now)
            sides[rater, vote.task_id] = vote.shown_first
        mine = [vote.shown_first for vote in store.votes() if vote.rater == rater]
        for start in range(0, 60, 4):
            assert sorted(mine[start : start + 4]) == ["a", "a", "b", "b"]
    tasks = {task for _, task in sides}
    agree = sum(sides["kim", task] == sides["lee", task] for task in tasks)
    assert 12 <= agree <= 48


def test_the_pairs_and_their_sides_stay_until_they_are_voted_on(tmp_path):
    path = tmp_path / "votes.db"
    with VoteStore.open(path) as store:
        store.add(pairs(5))
        first = Chair(store).look().pairs
        assert len(first) == 2
    with VoteStore.open(path) as store:
        assert [shown(p) for p in Chair(store).look().pairs] == [shown(p) for p in first]


def test_a_pair_tells_nothing_of_its_kind(store):
    store.add(pairs(40))
    store.add_gold([(pair(f"gold {i}"), "a") for i in range(40)])
    settings = parse_settings(
        AnnotateSettings, {"repeat_rate": 0.5, "gold": "gold.jsonl", "gold_rate": 0.5}
    )
    kim, tokens, ids = Chair(store, settings=settings), set(), set()
    for _ in range(60):
        now = kim.pair()
        assert now.again is None
        tokens.add(len(now.token))
        ids.add((len(now.task_id), now.task_id.isalnum()))
        kim.vote(now, "7")
    kinds = {task.id: task.kind for task in store.tasks()}
    cast = Counter(kinds[vote.task_id] for vote in store.votes(hidden=True))
    assert set(cast) == {"label", "gold", "repeat"}
    assert (tokens, ids) == ({36}, {(32, True)})
    assert kim.look().progress.done == cast["label"]


def test_a_repeat_shows_the_pair_with_its_sides_swapped(store):
    store.add([pair(f"q{i}", "alpha", "beta") for i in range(40)])
    kim = Chair(store, settings=parse_settings(AnnotateSettings, {"repeat_rate": 0.5}))
    first, n_again = {}, 0
    while now := kim.pair():
        prompt, left = now.prompt[0]["html"], now.left[0]["html"]
        if prompt in first:
            n_again += 1
            assert first[prompt] != left
        first[prompt] = left
        kim.vote(now)
    assert n_again >= 5


def test_undo_brings_the_pair_back_with_the_same_sides_and_counts_no_more(store):
    store.add(pairs(3))
    kim = Chair(store)
    first = kim.pair()
    kim.vote(first, "7")
    assert kim.pair().task_id != first.task_id
    undo_id = str(uuid.uuid4())
    vote, (back, *_) = kim.undo(undo_id)
    assert vote.choice == "withdrawn"
    assert shown(replace(back, token=first.token)) == shown(first)
    assert shown(kim.undo(undo_id)[1][0]) == shown(back)
    assert shown(kim.pair()) == shown(back)
    progress = kim.look().progress
    assert (progress.done, progress.left) == (0, 3)
    assert [v.choice for v in store.votes()][1:] == ["withdrawn"]
    assert kim.undo()[0] is None


def test_a_ballot_sent_twice_is_one_vote(store):
    store.add(pairs(2))
    kim = Chair(store)
    sent = Judged(str(uuid.uuid4()), kim.pair().token, "1")
    assert kim.send(sent) == kim.send(sent)
    assert len(store.votes()) == 1


def test_a_second_tab_is_told_and_a_change_of_mind_replaces(store):
    store.add(pairs(1), k=2)
    kim = Chair(store)
    now = kim.pair()
    first = kim.vote(now, "1")
    with pytest.raises(Spent):
        kim.vote(now, "7")
    again = kim.session.again("kim", first)
    assert (again.again, again.key, again.left) == (first.id, "1", now.left)
    second = kim.vote(again, "7", replaces=first.id)
    assert second.replaces == first.id
    assert (store.counts().standing, store.counts().open) == (1, 1)


def test_a_task_never_shown_and_a_foreign_id_are_refused(store):
    store.add(pairs(6))
    kim, lee = Chair(store, "kim"), Chair(store, "lee")
    now = kim.pair()
    with pytest.raises(NotServed):
        lee.vote(now)
    kims = kim.vote(now)
    lees = lee.pair()
    with pytest.raises(IdTaken):
        lee.send(Judged(kims.id, lees.token, "1"))
    with pytest.raises(IdTaken):
        lee.undo(kims.id)
    assert len(store.votes()) == 1


def test_a_skip_stands_but_leaves_the_task_open_to_others(store):
    store.add(pairs(1))
    kim = Chair(store)
    kim.vote(kim.pair(), "s")
    assert kim.pair() is None
    assert kim.look().progress.skipped == 1
    assert Chair(store, "lee").pair() is not None


def test_history_is_ones_own_newest_first_and_knows_the_keys(store):
    store.add(pairs(4), k=2)
    kim, lee = Chair(store, "kim"), Chair(store, "lee")
    sent = [kim.vote(kim.pair(), key) for key in "7x4"]
    lee.vote(lee.pair())
    found = kim.session.history("kim", None, 2)
    assert [vote.id for _, vote in found] == [sent[2].id, sent[1].id]
    rest = kim.session.history("kim", found[-1][0], 2)
    assert [vote.id for _, vote in rest] == [sent[0].id]
    assert [kim.session.again("kim", vote).key for _, vote in [*found, *rest]] == ["4", "x", "7"]


def test_progress_that_is_not_counted_each_time_is_right_for_ones_own_votes(store, monkeypatch):
    monkeypatch.setattr(progress_module, "EXACT", 0)
    store.add(pairs(8))
    kim = Chair(store)
    for key in "1s4":
        before = kim.look()
        kim.vote(before.pairs[0], key)
    kim.undo()
    kept = kim.look().progress
    assert kept == store.progress("kim")
    assert (kept.done, kept.skipped, kept.left) == (2, 1, 6)


def test_a_lease_is_as_long_as_the_rater_is_slow(store):
    store.add(pairs(4))
    kim = Chair(store)
    assert kim.pair().expires_s <= 600
    for ms in (300_000, 240_000):
        kim.vote(kim.pair(), active_ms=ms)
    assert 900 < Chair(store).pair().expires_s <= 1200


def test_the_guideline_version_follows_the_text():
    other = parse_settings(AnnotateSettings, {"guidelines": "Pick the shorter one."})
    assert other.guideline_version != SETTINGS.guideline_version


def test_every_event_of_a_rater_says_which_guidelines_were_in_force(store, tmp_path):
    store.add(pairs(4))
    kim = Chair(store)
    now = kim.pair()
    kim.vote(now)
    kim.undo()
    kim.session.flag("kim", str(uuid.uuid4()), now.task_id, on=True, note=None).result(30)
    query = "SELECT kind, payload FROM events WHERE rater = 'kim'"
    rows = tampering.rows(tmp_path / "votes.db", query)
    assert {row["kind"] for row in rows} == {"served", "vote", "undo", "again", "flag"}
    versions = {json.loads(row["payload"]).get("guideline_version") for row in rows}
    assert versions == {SETTINGS.guideline_version}
    assert store.verify() == []
