from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.core.errors import DataError
from prefkit.core.records import Completion, Message, Prompt
from prefkit.evaluation import answer_lengths, compare_answers, score_interval, win_rate


def prompts(n: int) -> list[Prompt]:
    return [Prompt.make([Message.of("user", f"question {i}")]) for i in range(n)]


def answers(asked: list[Prompt], texts: list[str], finish: str | None = "stop") -> list[Completion]:
    return [
        Completion.make(p.id, [Message.of("assistant", text)], "model", finish_reason=finish)
        for p, text in zip(asked, texts, strict=True)
    ]


def by_length(prompt: Prompt, new: str, base: str) -> float | None:
    """The longer answer wins; no verdict where a side is empty."""
    if not new or not base:
        return None
    return 0.5 if len(new) == len(base) else float(len(new) > len(base))


TEXTS = st.lists(st.tuples(st.text("x", max_size=3), st.text("x", max_size=3)), min_size=1)


@given(TEXTS)
def test_counts_add_up_and_the_rate_follows_from_them(pairs):
    asked = prompts(len(pairs))
    new, base = (answers(asked, [pair[side] for pair in pairs]) for side in (0, 1))
    decided = [pair for pair in pairs if all(pair)]
    if not decided:
        with pytest.raises(DataError, match="got a verdict"):
            win_rate(asked, new, base, by_length)
        return
    found = win_rate(asked, new, base, by_length)
    assert found.n_wins + found.n_ties + found.n_losses == found.n_prompts == len(decided)
    assert found.n_prompts + found.n_skipped == len(asked)
    assert found.n_unanswered == 0
    assert found.win_rate == pytest.approx((found.n_wins + found.n_ties / 2) / found.n_prompts)
    assert found.ci95 == score_interval(
        [1.0] * found.n_wins + [0.5] * found.n_ties + [0.0] * found.n_losses
    )


def test_answers_are_matched_by_prompt_and_not_by_place():
    asked = prompts(6)
    new = answers(asked, ["xx", "x", "xx", "x", "xx", "xx"])
    base = answers(asked, ["x", "xx", "x", "xx", "x", "x"])
    random.Random(1).shuffle(new)
    assert win_rate(asked, new, base[::-1], by_length).n_wins == 4


@pytest.mark.parametrize("side", ["new", "base"])
def test_a_prompt_without_an_answer_is_counted_and_left_out(side):
    asked = prompts(3)
    full = answers(asked, ["x", "x", "x"])
    sides = {"new": full, "base": full, side: full[:2]}
    found = win_rate(asked, sides["new"], sides["base"], by_length)
    assert (found.n_prompts, found.n_unanswered, found.n_skipped) == (2, 1, 0)
    samples = compare_answers(asked, **sides, verdict=by_length).samples
    assert [sample.prompt_id for sample in samples] == [prompt.id for prompt in asked[:2]]


def test_no_answers_at_all_are_an_error():
    with pytest.raises(DataError, match="0 were answered"):
        win_rate(prompts(3), [], [], by_length)


def test_two_answers_to_a_prompt_are_refused():
    asked = prompts(1)
    twice = answers(asked * 2, ["x", "xx"])
    with pytest.raises(DataError, match="two answers"):
        win_rate(asked, twice, answers(asked, ["x"]), by_length)


def test_samples_keep_every_prompt_with_its_outcome():
    asked = prompts(3)
    found = compare_answers(
        asked,
        new=answers(asked, ["xx", "", "x"]),
        base=answers(asked, ["x", "x", "x"]),
        verdict=by_length,
    )
    assert [(s.base, s.new, s.outcome) for s in found.samples] == [
        ("x", "xx", 1.0),
        ("x", "", None),
        ("x", "x", 0.5),
    ]


def test_lengths_are_in_words_and_count_answers_that_hit_the_limit():
    asked = prompts(4)
    found = answer_lengths(
        answers(asked[:3], ["one", "one two", "one two  three\nfour five six"])
        + answers(asked[3:], ["one two three"], finish="length")
    )
    assert (found.mean_words, found.median_words, found.share_unfinished) == (3.0, 2.5, 0.25)


def test_lengths_of_nothing_are_none():
    found = answer_lengths([])
    assert (found.mean_words, found.median_words, found.share_unfinished) == (None, None, None)
