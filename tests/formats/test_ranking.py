"""Lists out of pairs: order, ties, separate groups, and the optimum of the strengths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.core.records import Example, Message, Prompt
from prefkit.formats.ranking import RIDGE, ranked_lists, strengths


def pair(chosen: str, rejected: str, p: float = 0.8, prompt: str = "q", **values) -> Example:
    asked = Prompt.make([Message.of("user", prompt)])
    sides = [[Message.of("assistant", text)] for text in (chosen, rejected)]
    return Example.make(asked, *sides, p=p, **values)[0]


def texts(found):
    return [[answer.messages[0].text for answer in ranked.answers] for ranked in found]


def test_a_chain_of_pairs_is_one_list_best_first():
    found = ranked_lists([pair("b", "c"), pair("a", "b"), pair("x", "y", prompt="other")])
    assert texts(found) == [["a", "b", "c"], ["x", "y"]]
    assert [ranked.n_pairs for ranked in found] == [2, 1]
    assert all(sum(ranked.scores) == pytest.approx(0, abs=1e-5) for ranked in found)


def test_answers_that_no_pairs_connect_are_never_put_in_one_list():
    found = ranked_lists([pair("a", "b"), pair("c", "d"), pair("a", "c", weight=0.0)])
    assert texts(found) == [["a", "b"], ["c", "d"]]


def test_the_same_text_under_another_prompt_is_another_answer():
    found = ranked_lists([pair("a", "b"), pair("b", "a", prompt="other")])
    assert texts(found) == [["a", "b"], ["b", "a"]]


def test_a_cycle_of_equal_strength_is_a_tie():
    (found,) = ranked_lists([pair("a", "b"), pair("b", "c"), pair("c", "a")])
    assert len(set(found.scores)) == 1


def test_the_gap_of_one_pair_is_nearly_its_log_odds_and_finite_at_one():
    (found,) = ranked_lists([pair("a", "b", 0.8)])
    assert found.scores[0] - found.scores[1] == pytest.approx(math.log(4), rel=0.02)
    (certain,) = ranked_lists([pair("a", "b", 1.0)])
    assert certain.scores[0] - certain.scores[1] == pytest.approx(4.5, abs=0.1)


def test_the_writers_of_answers_are_read_from_prefkits_evidence():
    evidence = '{"model_chosen": "good", "model_rejected": "bad"}'
    (found,) = ranked_lists([pair("a", "b", evidence=evidence)])
    assert [answer.model for answer in found.answers] == ["good", "bad"]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.integers(0, 5),
            st.floats(0, 1),
            st.floats(0.1, 10),
        ).filter(lambda row: row[0] != row[1]),
        min_size=1,
        max_size=15,
    )
)
def test_the_gradient_is_zero_at_the_strengths(rows):
    first, second, p, weight = (np.array(column) for column in zip(*rows, strict=True))
    s = strengths(6, first, second, p, weight)

    def value(at):
        total = -0.5 * RIDGE * sum(x * x for x in at)
        for i, j, wanted, w in rows:
            won = 1 / (1 + math.exp(-(at[i] - at[j])))
            total += w * (wanted * math.log(won) + (1 - wanted) * math.log(1 - won))
        return total

    for k in range(6):
        up, down = s.copy(), s.copy()
        up[k] += 1e-5
        down[k] -= 1e-5
        assert (value(up) - value(down)) / 2e-5 == pytest.approx(0, abs=1e-4)
