"""Pairing policies: laws over every registered one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.core.errors import ConfigError
from prefkit.core.records import Completion, Message, Prompt
from prefkit.generation import PAIRINGS, GenerateSettings, pair
from prefkit.generation.pairing import word_overlap

NAMES = PAIRINGS.names()
texts = st.lists(
    st.lists(st.text(alphabet="ab c", max_size=5), min_size=0, max_size=6), min_size=1, max_size=4
)


def build(groups: list[list[str]]):
    prompts = [Prompt.make([Message.of("user", f"question {i}")]) for i in range(len(groups))]
    completions = [
        Completion.make(p.id, [Message.of("assistant", text)], "model", sample_index=i)
        for p, group in zip(prompts, groups, strict=True)
        for i, text in enumerate(group)
    ]
    return prompts, completions


@pytest.mark.parametrize("pairing", NAMES)
@given(groups=texts, pairs=st.integers(0, 20), seed=st.integers(0, 9))
def test_pairs_are_distinct_different_and_within_their_prompt(pairing, groups, pairs, seed):
    prompts, completions = build(groups)
    settings = GenerateSettings(pairing=pairing, pairs_per_prompt=pairs)
    comparisons, _ = pair(prompts, completions, settings, seed, "here")
    assert len({c.id for c in comparisons}) == len(comparisons)
    for comparison in comparisons:
        assert comparison.a.prompt_id == comparison.b.prompt_id == comparison.prompt.id
        assert comparison.a.text.strip() != comparison.b.text.strip()
        assert comparison.a.text.strip()
        assert comparison.b.text.strip()
        assert comparison.origin == "here"


@pytest.mark.parametrize("pairing", NAMES)
@given(groups=texts, pairs=st.integers(1, 20), seed=st.integers(0, 9))
def test_every_answer_is_counted_and_as_many_pairs_are_made_as_there_are(
    pairing, groups, pairs, seed
):
    prompts, completions = build(groups)
    settings = GenerateSettings(pairing=pairing, pairs_per_prompt=pairs)
    comparisons, counts = pair(prompts, completions, settings, seed)
    different = [len({t.strip() for t in group if t.strip()}) for group in groups]
    assert counts["empty"] == sum(not t.strip() for group in groups for t in group)
    assert counts["empty"] + counts["identical"] + sum(different) == len(completions)
    assert counts["unpaired_prompts"] == sum(n < 2 for n in different)
    assert len(comparisons) == sum(min(pairs, n * (n - 1) // 2) for n in different)


@pytest.mark.parametrize("pairing", NAMES)
@given(groups=texts, seed=st.integers(0, 9))
def test_a_prompts_pairs_do_not_depend_on_the_other_prompts(pairing, groups, seed):
    prompts, completions = build(groups)
    settings = GenerateSettings(pairing=pairing, pairs_per_prompt=2)
    together, _ = pair(prompts, completions, settings, seed)
    alone = [
        comparison
        for prompt in prompts
        for comparison in pair(
            [prompt], [c for c in completions if c.prompt_id == prompt.id], settings, seed
        )[0]
    ]
    assert together == alone


def test_random_pairs_are_equally_likely():
    prompts, completions = build([["a", "b", "c", "d"]] * 1)
    settings = GenerateSettings(pairs_per_prompt=1)
    drawn = [pair(prompts, completions, settings, seed)[0][0].id for seed in range(1200)]
    shares = [drawn.count(name) / 1200 for name in set(drawn)]
    assert len(shares) == 6
    # Five standard errors of a share of 1/6 over 1,200 draws.
    assert max(abs(share - 1 / 6) for share in shares) < 5 * (1 / 6 * 5 / 6 / 1200) ** 0.5


def test_most_different_picks_the_pair_with_the_least_words_in_common():
    prompts, completions = build([["the sea is wide", "the sea is deep", "bread needs flour"]])
    settings = GenerateSettings(pairing="most_different", pairs_per_prompt=2)
    comparisons, _ = pair(prompts, completions, settings, 0)
    assert all("bread needs flour" in (c.a.text, c.b.text) for c in comparisons)


@given(st.text(), st.text())
def test_word_overlap_is_symmetric_and_one_for_equal_texts(one, other):
    assert 0 <= word_overlap(one, other) == word_overlap(other, one) <= 1
    assert word_overlap(one, one) == 1


def test_an_unknown_pairing_names_the_near_one():
    with pytest.raises(ConfigError, match="most_different"):
        PAIRINGS.get("most_diferent")


def test_answers_cut_by_max_tokens_are_counted_and_paired_only_on_request() -> None:
    prompt = Prompt.make([Message.of("user", "Tell me")])
    answers = [
        Completion.make(
            prompt.id,
            [Message.of("assistant", text)],
            "model",
            sample_index=index,
            finish_reason=reason,
        )
        for index, (text, reason) in enumerate(
            [("Done.", "stop"), ("Well done.", "stop"), ("It was the", "length")]
        )
    ]
    for unfinished, n_comparisons in (("drop", 1), ("keep", 3)):
        settings = GenerateSettings(pairs_per_prompt=9, unfinished=unfinished)
        comparisons, counts = pair([prompt], answers, settings, 0)
        assert len(comparisons) == n_comparisons
        assert counts["unfinished"] == 1
