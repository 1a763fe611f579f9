"""What a key means, which side is shown, and that nothing is lost or judged twice."""

from __future__ import annotations

import uuid
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_cases import pair, pairs

from prefkit.annotation.session import KEYS, Ballot, IdTaken, NotServed, Session, meaning
from prefkit.annotation.settings import AnnotateSettings
from prefkit.settings import parse_settings
from prefkit.store import VoteStore

SETTINGS = parse_settings(AnnotateSettings, {})
OTHER = {"a": "b", "b": "a"}
MIRROR = {**{str(n): str(8 - n) for n in range(1, 8)}, "x": "x", "i": "i", "s": "s"}


@pytest.fixture
def store(tmp_path):
    with VoteStore.open(tmp_path / "votes.db") as opened:
        yield opened


def ballot(pair_shown, key="1", **values):
    return Ballot(str(uuid.uuid4()), pair_shown.task_id, key, **values)


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


def test_what_is_on_the_left_is_the_slot_that_the_vote_records(store):
    store.add([pair(f"q{i}", "alpha", "beta") for i in range(20)])
    texts = {c.id: {"a": c.a.text, "b": c.b.text} for c in store.comparisons()}
    session = Session(store, "kim", SETTINGS)
    while shown := session.next_pair():
        vote = session.vote(ballot(shown, "2", active_ms=900))
        left_text = texts[vote.comparison_id][vote.shown_first]
        assert left_text in shown.left[0]["html"]
        assert texts[vote.comparison_id][vote.choice] == left_text
        assert (vote.strength, vote.active_ms, vote.rater_kind) == (2, 900, "human")
        assert vote.guideline_version == SETTINGS.guideline_version
    assert len(store.votes()) == 20


def test_sides_are_spread_over_pairs_and_raters(store):
    store.add(pairs(60), k=3)
    sides = {}
    for rater in ("kim", "lee"):
        session = Session(store, rater, SETTINGS)
        while shown := session.next_pair():
            sides[rater, shown.task_id] = session.vote(ballot(shown)).shown_first
    # 120 fair coins: outside 35..85 less than once in 100 000 times (binomial, two-sided).
    assert 35 <= Counter(sides.values())["a"] <= 85
    tasks = {task for _, task in sides}
    agree = sum(sides["kim", task] == sides["lee", task] for task in tasks)
    assert 12 <= agree <= 48


def test_the_pair_and_its_sides_stay_until_it_is_voted_on(tmp_path):
    path = tmp_path / "votes.db"
    with VoteStore.open(path) as store:
        store.add(pairs(5))
        first = Session(store, "kim", SETTINGS).next_pair()
    with VoteStore.open(path) as store:
        assert Session(store, "kim", SETTINGS).next_pair() == first


def test_undo_brings_the_pair_back_with_the_same_sides_and_counts_no_more(store):
    store.add(pairs(3))
    session = Session(store, "kim", SETTINGS)
    shown = session.next_pair()
    session.vote(ballot(shown, "7"))
    assert session.next_pair() != shown
    undo_id = str(uuid.uuid4())
    assert session.undo(undo_id) == shown
    assert session.undo(undo_id) == shown
    assert session.next_pair() == shown
    assert (session.progress().done, session.progress().left) == (0, 3)
    assert [v.choice for v in store.votes()][1:] == ["withdrawn"]
    assert session.undo(str(uuid.uuid4())) is None


def test_a_ballot_sent_twice_is_one_vote(store):
    store.add(pairs(2))
    session = Session(store, "kim", SETTINGS)
    sent = ballot(session.next_pair())
    assert session.vote(sent) == session.vote(sent)
    assert len(store.votes()) == 1


def test_a_second_tab_replaces_and_does_not_add(store):
    store.add(pairs(1), k=2)
    session = Session(store, "kim", SETTINGS)
    shown = session.next_pair()
    first = session.vote(ballot(shown, "1"))
    second = session.vote(ballot(shown, "7"))
    assert second.replaces == first.id
    assert (store.counts().standing, store.counts().open) == (1, 1)


def test_a_task_never_shown_and_a_foreign_id_are_refused(store):
    store.add(pairs(2))
    kim, lee = Session(store, "kim", SETTINGS), Session(store, "lee", SETTINGS)
    shown = kim.next_pair()
    with pytest.raises(NotServed):
        lee.vote(ballot(shown))
    kims = kim.vote(ballot(shown))
    lees = lee.next_pair()
    with pytest.raises(IdTaken):
        lee.vote(Ballot(kims.id, lees.task_id, "1"))
    with pytest.raises(IdTaken):
        lee.undo(kims.id)
    assert len(store.votes()) == 1


def test_a_skip_stands_but_leaves_the_task_open_to_others(store):
    store.add(pairs(1))
    kim = Session(store, "kim", SETTINGS)
    kim.vote(ballot(kim.next_pair(), "s"))
    assert kim.next_pair() is None
    assert kim.progress().skipped == 1
    assert Session(store, "lee", SETTINGS).next_pair() is not None


def test_the_guideline_version_follows_the_text():
    other = parse_settings(AnnotateSettings, {"guidelines": "Pick the shorter one."})
    assert other.guideline_version != SETTINGS.guideline_version
