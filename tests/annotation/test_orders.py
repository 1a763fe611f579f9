"""Orders: every label task has one place, strata are spread, the uncertain come first."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.annotation.orders import is_in_slice, p_a, places
from prefkit.annotation.settings import AnnotateSettings
from prefkit.core.rng import derive_seed
from prefkit.settings import parse_settings
from prefkit.store.leasing import IN_ORDER, SLICE
from prefkit.store.ordering import TaskFacts, is_at_the_back


def task(number, *, origin="o", choices=(), kind="label", tags=None):
    name = f"t{number}"
    return TaskFacts(
        name, name, kind, origin, tags or {}, derive_seed("task", name), 1, 0, None, tuple(choices)
    )


def order(tasks, *, sliced=False, **words):
    found = places(tasks, parse_settings(AnnotateSettings, words), "salt", sliced=sliced)
    return [p.id for p in sorted(found, key=lambda p: (p.priority, p.id)) if p.lane == IN_ORDER]


TASKS = st.lists(
    st.tuples(
        st.sampled_from(["x", "y", "z"]),
        st.lists(st.sampled_from(["a", "b", "tie", "both_bad"]), max_size=6),
        st.sampled_from(["label", "label", "gold", "repeat"]),
    ),
    max_size=30,
)


@given(drawn=TASKS, name=st.sampled_from(["random", "stratified", "uncertain"]))
def test_every_label_task_has_one_place_before_those_opened_again(drawn, name):
    tasks = [task(n, origin=o, choices=c, kind=k) for n, (o, c, k) in enumerate(drawn)]
    settings = parse_settings(AnnotateSettings, {"order": name})
    found = places(tasks, settings, "salt", sliced=name == "uncertain")
    assert sorted(p.id for p in found) == sorted(t.id for t in tasks if t.kind == "label")
    assert all(p.priority >= 0 and not is_at_the_back(p.priority) for p in found)
    assert {p.lane for p in found} <= {SLICE, IN_ORDER}
    backwards = places(tasks[::-1], settings, "salt", sliced=name == "uncertain")
    assert {p.id: p for p in backwards} == {p.id: p for p in found}


def test_a_random_order_is_the_shuffle_and_not_the_order_they_came_in():
    tasks = [task(n) for n in range(50)]
    shuffled = [t.id for t in sorted(tasks, key=lambda t: t.shuffle)]
    assert order(tasks) == shuffled != [t.id for t in tasks]


def test_each_tenth_of_a_stratified_order_holds_the_strata_in_their_shares():
    tasks = [task(n, origin="rare" if n % 10 == 0 else "common") for n in range(500)]
    origin = {t.id: t.origin for t in tasks}
    found = order(tasks, order="stratified")
    for start in range(0, 500, 50):
        share = Counter(origin[name] for name in found[start : start + 50])
        assert 4 <= share["rare"] <= 6


def test_strata_can_be_a_tag_and_those_without_it_are_one_stratum():
    tasks = [task(n, tags={"topic": "law"} if n % 2 else {}) for n in range(100)]
    tags = {t.id: t.tags.get("topic") for t in tasks}
    found = order(tasks, order="stratified", strata="tag:topic")
    assert all(
        4 <= sum(tags[n] == "law" for n in found[s : s + 10]) <= 6 for s in range(0, 100, 10)
    )


def test_the_least_certain_come_first_and_ties_of_it_in_random_order():
    votes = {0: "aaaa", 1: "ab", 2: "a", 3: "aa", 4: "", 5: "bbbbb"}
    spelled = {"a": "a", "b": "b"}
    tasks = [task(n, choices=[spelled[c] for c in text]) for n, text in votes.items()]
    found = order(tasks, order="uncertain")
    assert set(found[:2]) == {"t1", "t4"}
    assert found[2:] == ["t2", "t3", "t0", "t5"]


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_slice_is_a_fair_share_that_no_vote_changes(share):
    settings = parse_settings(AnnotateSettings, {"order": "uncertain", "random_slice": share})
    tasks = [task(n, choices=["a"] * (n % 5)) for n in range(3000)]
    chosen = {t.id for t in tasks if is_in_slice(t, settings, "salt")}
    assert abs(len(chosen) / 3000 - share) < 0.03
    found = places(tasks, settings, "salt", sliced=True)
    assert {p.id for p in found if p.lane == SLICE} == chosen
    bare = [task(n) for n in range(3000)]
    assert {t.id for t in bare if is_in_slice(t, settings, "salt")} == chosen
    by_votes = Counter(int(name[1:]) % 5 for name in chosen)
    assert max(by_votes.values()) - min(by_votes.values()) < 0.35 * len(chosen) / 5 + 30


def test_less_than_a_fifth_is_no_slice():
    from prefkit.core.errors import ConfigError

    with pytest.raises(ConfigError):
        parse_settings(AnnotateSettings, {"random_slice": 0.1})


def test_p_a_is_laplaces_share():
    assert p_a([]) == 0.5
    assert p_a(["a", "a", "tie", "both_bad"]) == (1 + 2.5) / 5
