"""A model as judge: strict reading, both orders, no default verdict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judging_cases import BAD, GOOD, comparison, many

from prefkit.engines.settings import EngineSettings
from prefkit.judging import JudgeSettings, judge
from prefkit.judging.llm_judge import UNPARSEABLE, judge_prompt, judge_vote, parse_reply

REPLIES = ("A", "B", "tie")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A", 1.0),
        (" B.\n", 0.0),
        ("**tie**", 0.5),
        ("[[A]]", 1.0),
        ("Answer B", 0.0),
        ('"Tie"', 0.5),
        ("", None),
        ("A bee", None),
        ("A or B", None),
        ("Both", None),
        ("I prefer A", None),
        ("AB", None),
        ("ties", None),
        ("A\n\nBecause B is worse", None),
    ],
)
def test_a_reply_is_one_word_or_nothing(text, value):
    assert parse_reply(text) == value


@given(st.text(max_size=20))
def test_whatever_is_read_is_a_verdict_or_none(text):
    assert parse_reply(text) in (1.0, 0.5, 0.0, None)


@pytest.mark.parametrize(
    ("a_first", "b_first", "choice", "p_a", "strength"),
    [
        ("A", "B", "a", 1.0, 2),  # slot a in both orders
        ("B", "A", "b", 0.0, 2),
        ("A", "tie", "a", 0.75, 1),
        ("tie", "A", "b", 0.25, 1),
        ("tie", "tie", "tie", 0.5, 0),
        ("A", "A", "tie", 0.5, 0),  # always the first place
        ("B", "B", "tie", 0.5, 0),
    ],
)
def test_p_a_is_the_mean_of_both_orders(a_first, b_first, choice, p_a, strength):
    made, _ = comparison(GOOD, BAD)
    vote = judge_vote(made, "llm:m", a_first, b_first, identity={})
    assert vote is not None
    assert (vote.choice, vote.p_a, vote.strength) == (choice, p_a, strength)
    assert vote.rater_kind == "judge"
    assert (vote.aspects == {"orders": "contradict"}) == (a_first == b_first != "tie")


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("bad", ["", "maybe", "A B"])
def test_one_unreadable_order_means_no_vote(reply, bad):
    made, _ = comparison(GOOD, BAD)
    assert judge_vote(made, "llm:m", reply, bad, identity={}) is None
    assert judge_vote(made, "llm:m", bad, reply, identity={}) is None


def test_the_two_orders_show_the_same_answers_in_swapped_places():
    made, _ = comparison(GOOD, BAD)
    one, two = (judge_prompt(made, "Which?", a_first=first).text for first in (True, False))
    assert one.index(made.a.text) < one.index(made.b.text)
    assert two.index(made.b.text) < two.index(made.a.text)
    swapped = two.replace(made.a.text, "\0").replace(made.b.text, made.a.text)
    assert swapped.replace("\0", made.b.text) == one


def test_braces_in_answers_are_text():
    made, _ = comparison("{question} {0}", BAD)
    assert "{question} {0}" in judge_prompt(made, "Which?", a_first=True).text


@pytest.mark.parametrize(("word", "n_votes"), [("tie", 4), ("A", 4), ("A and B", 0)])
def test_replies_come_through_an_engine(word, n_votes, tiny_model_dir, tmp_path):
    comparisons, _ = many(4)
    settings = JudgeSettings(
        rater="llm",
        model=str(tiny_model_dir),
        engine=EngineSettings(backend="scripted", script=word),
    )
    judged = judge(comparisons, settings, journal=tmp_path)
    assert {vote.choice for vote in judged.votes} == ({"tie"} if n_votes else set())
    assert not [vote for vote in judged.votes if str(tiny_model_dir.parent) in vote.rater]
    assert len(judged.votes) == n_votes
    assert sum(judged.failed.values()) == 4 - n_votes


@pytest.mark.slow
def test_a_model_that_babbles_gives_no_votes_and_every_comparison_is_counted(
    tiny_model_dir, tmp_path
):
    comparisons, _ = many(3)
    settings = JudgeSettings(
        rater="llm", model=str(tiny_model_dir), engine=EngineSettings(backend="transformers")
    )
    judged = judge(comparisons, settings, journal=tmp_path)
    assert judged.votes == []
    assert judged.failed == {UNPARSEABLE: 3}
