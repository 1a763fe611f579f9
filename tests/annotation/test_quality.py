"""How raters do: planted raters are told apart, and no vote is dropped."""

from __future__ import annotations

import math
import random
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.annotation.quality import entropy, rater_quality, screen_key, wilson
from prefkit.core.records import Vote
from prefkit.store.ordering import TaskFacts

OTHER = {"a": "b", "b": "a"}


def task(name, kind="label", comparison=None, gold=None):
    return TaskFacts(name, comparison or name, kind, "o", {}, 0, 1, 0, gold, ())


def vote(task_id, rater, choice, *, comparison=None, shown_first="a", active_ms=5000, **values):
    given = {"strength": 1 if choice in OTHER else None, "rater_kind": "human", **values}
    return Vote(
        str(uuid.uuid4()), task_id, comparison or task_id, rater, choice=choice,
        at=datetime.now(UTC), shown_first=shown_first, active_ms=active_ms, **given,
    )  # fmt: skip


def of(found, rater):
    return next(quality for quality in found if quality.rater == rater)


@given(st.integers(0, 60), st.integers(1, 60))
def test_wilson_solves_its_equation_and_holds_the_share(hits, n):
    hits = min(hits, n)
    share = wilson(hits, n)
    assert 0 <= share.low <= share.value <= share.high <= 1
    for bound in (share.low, share.high):
        if 0 < bound < 1:  # |p̂ − p| = z √(p (1 − p) / n)
            z = abs(hits / n - bound) / math.sqrt(bound * (1 - bound) / n)
            assert z == pytest.approx(1.959963984540054, rel=1e-6)


def test_of_nothing_there_is_no_share():
    assert wilson(0, 0) is None


def test_gold_repeats_and_agreement_of_planted_raters():
    rng = random.Random(3)
    tasks = [task(f"t{n}") for n in range(60)]
    tasks += [task(f"g{n}", "gold", gold="ab"[n % 2]) for n in range(40)]
    good, bad, votes = "good", "coin", []
    truth = {t.id: t.gold or rng.choice("ab") for t in tasks}
    shown = list(tasks)
    for rater in (good, bad, "third"):
        for t in shown:
            right = truth[t.id] if rater != bad else rng.choice("ab")
            votes.append(vote(t.id, rater, right, shown_first=rng.choice("ab")))
        for n in range(20):
            again = f"r{n}-{rater}"
            tasks.append(task(again, "repeat", f"t{n}"))
            first = next(v for v in votes if (v.task_id, v.rater) == (f"t{n}", rater))
            said = first.choice if rater != bad else rng.choice("ab")
            votes.append(vote(again, rater, said, comparison=f"t{n}"))
    found = rater_quality(votes, tasks, fast_ms=1500)
    assert [(of(found, r).gold.value, of(found, r).repeats.value) for r in (good, "third")] == [
        (1.0, 1.0)
    ] * 2
    assert of(found, good).flags == ()
    coin = of(found, bad)
    assert 0.25 < coin.gold.value < 0.75
    assert {"gold"} <= set(coin.flags) <= {"gold", "repeats"}
    assert coin.agreement.value < of(found, good).agreement.value
    assert (coin.n_votes, coin.gold.n, coin.repeats.n) == (120, 40, 20)


def test_too_fast_and_constant_raters_are_flagged_and_others_are_not():
    tasks = [task(f"t{n}") for n in range(40)]
    votes = []
    for n, t in enumerate(tasks):
        votes.append(vote(t.id, "fast", "ab"[n % 2], active_ms=400 if n % 4 else 9000))
        # The same key each time, whatever is on the left.
        side = "ab"[n * 7 % 3 % 2]
        votes.append(vote(t.id, "constant", side, shown_first=side, strength=3))
        votes.append(vote(t.id, "careful", "ab"[n * 5 % 3 % 2], strength=n % 3 + 1))
    found = rater_quality(votes, tasks, fast_ms=1500)
    assert of(found, "fast").flags == ("fast",)
    assert of(found, "fast").fast.n_hits == 30
    assert of(found, "constant").flags == ("constant",)
    assert (of(found, "constant").key_bits, of(found, "constant").left.value) == (0.0, 1.0)
    assert of(found, "careful").flags == ()


def test_only_what_stands_is_judged_and_machines_are_no_raters():
    tasks = [task("t0"), task("t1")]
    first = vote("t0", "kim", "a")
    votes = [
        first,
        vote("t0", "kim", "b", replaces=first.id),
        vote("t1", "kim", "a"),
        vote("t1", "kim", "withdrawn"),
        vote("t0", "rule:x", "b", rater_kind="rule", shown_first=None),
    ]
    (kim,) = rater_quality(votes, tasks, fast_ms=1500)
    assert (kim.rater, kim.n_votes, kim.agreement.value) == ("kim", 1, 1.0)


@given(st.lists(st.sampled_from("abcd"), max_size=40))
def test_entropy_is_between_nothing_and_the_log_of_the_kinds(values):
    assert 0 <= entropy(values) <= math.log2(max(len(set(values)), 1)) + 1e-9


def test_a_key_is_what_was_on_the_screen():
    assert screen_key(vote("t", "kim", "a", shown_first="b", strength=2)) == "right 2"
    assert screen_key(vote("t", "kim", "tie")) == "tie"
