"""The rule `format` against what a reader would say by eye, and the laws every rule obeys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.core.errors import ConfigError
from prefkit.core.records import Message, Prompt
from prefkit.judging.rules import (
    RULES,
    is_degenerate,
    n_sentences,
    register_rule,
    rule_verdict,
    score,
)

TAGS = ("max_words:12", "max_words:1", "one_sentence", "bullets:3", "bullets:1")
ANSWERS = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(
            ["- a bee", "1. two bees", "It flies.", "It flies. It hums!", "", "bee bee"]
        ),
        max_size=8,
    ).map("\n".join),
)


def prompt(tag: str | None) -> Prompt:
    tags = {} if tag is None else {"format": tag}
    return Prompt.make([Message.of("user", "What is a bee?")], tags=tags)


def said(n: int, *, end: str = ".") -> str:
    """A sentence of ``n`` different words."""
    return " ".join(f"word{i}" for i in range(n)) + end


@given(answer=ANSWERS, tag=st.sampled_from(TAGS))
@pytest.mark.parametrize("rule", RULES.names())
def test_every_rule_stays_in_0_to_1_or_abstains(rule, answer, tag):
    value = score(prompt(tag), answer, rule=rule)
    assert value is None or 0.0 <= value <= 1.0


@given(one=ANSWERS, other=ANSWERS, tag=st.sampled_from(TAGS))
def test_swapping_the_answers_mirrors_the_verdict(one, other, tag):
    verdict = rule_verdict("format", prompt(tag), one, other)
    swapped = rule_verdict("format", prompt(tag), other, one)
    assert verdict is not None
    assert swapped is not None
    assert verdict + swapped == 1.0


@given(answer=ANSWERS, tag=st.sampled_from(TAGS))
def test_an_answer_ties_with_itself(answer, tag):
    assert rule_verdict("format", prompt(tag), answer, answer) == 0.5


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (0, 0.0),
        (1, 0.2),
        (4, 0.8),
        (5, 1.0),
        (12, 1.0),
        (15, 0.75),
        (18, 0.5),
        (24, 0.0),
        (90, 0.0),
    ],
)
def test_max_words_is_full_up_to_the_limit_and_nothing_at_twice_it(n, expected):
    assert score(prompt("max_words:12"), said(n)) == pytest.approx(expected)


def test_an_unfinished_answer_loses_three_tenths():
    assert score(prompt("max_words:12"), said(8, end="")) == pytest.approx(0.7)
    assert score(prompt("one_sentence"), said(8, end=" and")) == pytest.approx(0.7)


def test_a_closing_quote_after_the_full_stop_is_finished():
    assert score(prompt("max_words:12"), 'A bee is "a small flying insect."') == 1.0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("A bee is a small flying insect.", 1.0),
        ("A bee is an insect. It flies.", 1 / 2),
        ("A bee is an insect. It flies! It hums?", 1 / 3),
        ("A bee is an insect.\nIt lives in a hive.", 1 / 2),
        ("Bees like e.g. clover, thyme and lavender.", 1.0),
        ("A bee weighs about 0.1 grams in all.", 1.0),
        ("It flies.", 2 / 5),
    ],
)
def test_one_sentence_is_one_over_the_number_of_sentences(answer, expected):
    assert score(prompt("one_sentence"), answer) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("- It flies\n- It hums\n- It stings", 1.0),
        ("1. It flies\n2. It hums\n3. It stings", 1.0),
        ("* It flies\n\n* It hums\n\n* It stings", 1.0),
        ("- It flies\n- It hums", 2 / 3),
        ("- It flies\n- It hums\n- It stings\n- It eats", 3 / 4),
        ("Bees:\n- It flies\n- It hums\n- It stings", 3 / 4),
        ("- It flies\n- It flies\n- It flies", 1 / 3 * 1 / 3),
        ("1. 1.1\n2. 1.2\n3. 1.3", 0.0),
        ("It flies, it hums and it stings.", 0.0),
    ],
)
def test_bullets_count_distinct_bullets_and_the_share_of_lines(answer, expected):
    assert score(prompt("bullets:3"), answer) == pytest.approx(expected)


@pytest.mark.parametrize("answer", ["", "   \n", "...!?", "bee bee bee bee", "the bee the the the"])
@pytest.mark.parametrize("tag", TAGS)
def test_a_degenerate_answer_scores_nothing(answer, tag):
    assert is_degenerate(answer)
    assert score(prompt(tag), answer) == 0.0


@pytest.mark.parametrize(
    "tag",
    [None, "", "haiku", "max_words", "max_words:", "max_words:0", "max_words:x", "bullets:-1"],
)
def test_an_unknown_or_missing_format_gets_no_score(tag):
    assert score(prompt(tag), "A bee is a small flying insect.") is None
    assert rule_verdict("format", prompt(tag), "one", "two") is None


def test_a_difference_below_a_tenth_is_a_tie():
    twenty, twelve = prompt("max_words:20"), prompt("max_words:12")
    assert rule_verdict("format", twenty, said(21), said(20)) == 0.5  # 0.95 against 1
    assert rule_verdict("format", twelve, said(14), said(12)) == 0.0  # 0.83 against 1


def test_sentences_are_not_ended_by_list_numbers():
    assert n_sentences("1. Wash it\n2. Dry it") == 2


def test_an_unknown_rule_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'format'") as error:
        score(prompt("one_sentence"), "A bee.", rule="fromat")
    assert "format" in (error.value.hint or "")


def test_a_rule_that_leaves_its_range_is_our_bug_and_crashes():
    @register_rule("out of range, for this test")
    def two(prompt, answer):
        return 2.0

    try:
        with pytest.raises(ValueError, match=r"returned 2\.0"):
            score(prompt("one_sentence"), "A bee.", rule="out of range, for this test")
    finally:
        RULES._entries.pop("out of range, for this test")
