"""Laws that every registered aggregator obeys, and vote_share's formula by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.aggregation import AGGREGATORS, aggregate, build_examples, counted_votes
from prefkit.core.errors import ConfigError
from prefkit.core.records import Comparison, Completion, Message, Preference, Prompt, Vote

START = datetime(2026, 1, 1, tzinfo=UTC)
METHODS = [*AGGREGATORS.names(), "auto"]
OTHER = {"a": "b", "b": "a"}


def comparison(name: str) -> Comparison:
    prompt = Prompt.make([Message.of("user", name)], tags={"kind": "test"})
    one, other = (
        Completion.make(prompt.id, [Message.of("assistant", text)], f"model-{text}")
        for text in ("yes", "no")
    )
    return Comparison.make(prompt, one, other, origin="test")


PAIRS = [comparison(name) for name in ("first", "second", "third")]


def vote(number: int, pair: Comparison, choice: str = "a", **fields) -> Vote:
    return Vote(
        id=f"vote-{number:04d}",
        task_id=f"task-{pair.id}",
        comparison_id=pair.id,
        rater=fields.pop("rater", f"rater-{number % 3}"),
        rater_kind=fields.pop("rater_kind", "human"),
        choice=choice,
        at=START + timedelta(seconds=number),
        **fields,
    )


@st.composite
def vote_lists(draw, min_size: int = 0):
    size = draw(st.integers(min_size, 12))
    votes = []
    for number in range(size):
        choice = draw(st.sampled_from(["a", "b", "tie", "skip", "both_bad", "invalid"]))
        strength = {"tie": 0}.get(choice, draw(st.sampled_from([1, 2, 3, None])))
        machine = draw(st.booleans())
        p_a = draw(st.one_of(st.none(), st.floats(0, 1))) if machine else None
        replaced = draw(st.one_of(st.none(), st.integers(0, max(0, number - 1))))
        votes.append(
            vote(
                number,
                draw(st.sampled_from(PAIRS)),
                choice,
                strength=strength,
                p_a=p_a,
                rater_kind="judge" if machine else "human",
                replaces=None if replaced is None or not number else f"vote-{replaced:04d}",
                shown_first=draw(st.sampled_from(["a", "b", None])),
            )
        )
    return votes


def by_id(preferences: list[Preference]) -> dict[str, Preference]:
    return {preference.comparison_id: preference for preference in preferences}


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=40)
@given(votes=vote_lists(), data=st.data())
def test_vote_order_does_not_matter(method, votes, data):
    shuffled = data.draw(st.permutations(votes))
    assert aggregate(PAIRS, shuffled, method=method) == aggregate(PAIRS, votes, method=method)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=40)
@given(votes=vote_lists())
def test_swapping_the_sides_maps_p_to_its_complement(method, votes):
    swapped = [
        replace(
            v,
            choice=OTHER.get(v.choice, v.choice),
            p_a=None if v.p_a is None else 1 - v.p_a,
            shown_first=OTHER.get(v.shown_first),
        )
        for v in votes
    ]
    straight, turned = (by_id(aggregate(PAIRS, vs, method=method)) for vs in (votes, swapped))
    assert straight.keys() == turned.keys()
    for key, preference in straight.items():
        assert turned[key].p_a == pytest.approx(1 - preference.p_a, abs=1e-4)
        assert turned[key].disagreement == pytest.approx(preference.disagreement)
        if preference.margin is not None:
            assert turned[key].margin == pytest.approx(-preference.margin, abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=40)
@given(votes=vote_lists())
def test_a_mirrored_screen_changes_nothing(method, votes):
    mirrored = [replace(v, shown_first=OTHER.get(v.shown_first)) for v in votes]
    straight, other = (by_id(aggregate(PAIRS, vs, method=method)) for vs in (votes, mirrored))
    for key, preference in straight.items():
        assert other[key].p_a == pytest.approx(preference.p_a, abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=40)
@given(votes=vote_lists(min_size=1), choice=st.sampled_from(["a", "b", "tie", "skip", "withdrawn"]))
def test_a_replaced_vote_does_not_count(method, votes, choice):
    first = votes[0]
    revision = vote(999, PAIRS[0], choice, replaces=first.id, strength=None)
    with_both = aggregate(PAIRS, [*votes, revision], method=method)
    without = aggregate(PAIRS, [*votes[1:], replace(revision, replaces=None)], method=method)
    if first.replaces is None:
        assert with_both == without


@given(votes=vote_lists(), strength=st.sampled_from([1, 2, 3, None]))
def test_one_more_vote_for_a_raises_its_share(votes, strength):
    more = [*votes, vote(999, PAIRS[0], "a", strength=strength)]
    before = by_id(aggregate(PAIRS, votes, method="vote_share")).get(PAIRS[0].id)
    after = by_id(aggregate(PAIRS, more, method="vote_share"))[PAIRS[0].id]
    assert after.p_a > (before.p_a if before else 0.5)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=40)
@given(votes=vote_lists())
def test_p_is_inside_the_open_interval_and_the_counts_add_up(method, votes):
    counted = counted_votes(PAIRS, votes)
    preferences = aggregate(PAIRS, votes, method=method)
    assert all(0 < p.p_a < 1 for p in preferences)
    assert sum(p.n_votes for p in preferences) == counted.counts["n_counted"]
    parts = [n for name, n in counted.counts.items() if name not in _NOT_PARTS]
    assert sum(parts) == counted.counts["n_votes"] == len(votes)
    assert len(preferences) + counted.counts["n_without_preference"] == len(PAIRS)


_NOT_PARTS = {"n_votes", "n_comparisons", "n_without_preference"}


@pytest.mark.parametrize(
    ("votes", "p_a"),
    [
        ([("a", 3)], 2 / 3),  # (1 + 1) / (2 + 1)
        ([("a", 2)], 1.75 / 2.75),
        ([("a", 1)], 0.6),  # 1.5 / 2.5
        ([("a", None)], 1.75 / 2.75),  # as "better"
        ([("tie", 0)], 0.5),
        ([("b", 3)], 1 / 3),
        ([("a", 3), ("a", 3), ("b", 1), ("tie", 0)], 3.5 / 5.5),
    ],
)
def test_vote_share_is_the_formula(votes, p_a):
    cast = [vote(i, PAIRS[0], choice, strength=s) for i, (choice, s) in enumerate(votes)]
    assert aggregate(PAIRS, cast)[0].p_a == pytest.approx(p_a)


def test_a_machine_vote_is_split_by_its_probability():
    cast = [vote(1, PAIRS[0], "a", rater_kind="judge", p_a=0.8, strength=3)]
    assert aggregate(PAIRS, cast)[0].p_a == pytest.approx(1.8 / 3)


def test_disagreement_is_the_mean_over_pairs_of_votes():
    cast = [vote(1, PAIRS[0], "a"), vote(2, PAIRS[0], "a"), vote(3, PAIRS[0], "b")]
    assert aggregate(PAIRS, cast)[0].disagreement == pytest.approx(2 / 3)
    assert aggregate(PAIRS, cast[:1])[0].disagreement is None


def test_an_undo_of_a_revision_does_not_bring_the_first_vote_back():
    first = vote(1, PAIRS[0], "a")
    second = vote(2, PAIRS[0], "b", replaces=first.id)
    undo = vote(3, PAIRS[0], "withdrawn", replaces=second.id)
    assert aggregate(PAIRS, [first, second, undo]) == []


def test_a_vote_sent_twice_counts_once():
    once = vote(1, PAIRS[0], "a", strength=3)
    assert aggregate(PAIRS, [once, once]) == aggregate(PAIRS, [once])
    assert counted_votes(PAIRS, [once, once]).counts["n_repeated"] == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_comparison_that_is_given_twice_counts_once(method):
    votes = [vote(1, PAIRS[0]), vote(2, PAIRS[2], "b")]
    assert aggregate([*PAIRS, *PAIRS], votes, method=method) == aggregate(
        PAIRS, votes, method=method
    )


def test_only_both_bad_gives_no_preference_but_is_known():
    counted = counted_votes(PAIRS, [vote(1, PAIRS[0], "both_bad")])
    assert counted.both_bad == {PAIRS[0].id}
    assert aggregate(PAIRS, [vote(1, PAIRS[0], "both_bad")]) == []


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'vote_share'"):
        aggregate(PAIRS, [], method="voteshare")


@given(votes=vote_lists())
def test_an_example_has_p_of_at_least_half_and_its_chosen_side_is_the_likelier(votes):
    preferences = aggregate(PAIRS, votes)
    examples, counts = build_examples(PAIRS, preferences)
    assert counts["examples"] == len(preferences)
    assert counts["flipped"] == sum(p.p_a < 0.5 for p in preferences)
    for example, preference in zip(examples, preferences, strict=True):
        pair = next(c for c in PAIRS if c.id == preference.comparison_id)
        winner = pair.b if preference.p_a < 0.5 else pair.a
        evidence = json.loads(example.evidence)
        assert example.p == pytest.approx(max(preference.p_a, 1 - preference.p_a))
        assert example.chosen == winner.messages
        assert evidence["model_chosen"] == winner.model
        assert example.margin >= 0
        assert example.tags == {"kind": "test"}


def test_a_preference_without_its_comparison_is_counted():
    preferences = aggregate(PAIRS, [vote(1, PAIRS[0]), vote(2, PAIRS[1])])
    examples, counts = build_examples(PAIRS[1:], preferences)
    assert len(examples) == 1
    assert counts["without_comparison"] == 1
    assert counts["without_preference"] == 1
