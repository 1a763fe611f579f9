"""Answers sampled while a run trains end where the model's positions do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from prefkit.policy.load import load_tokenizer
from prefkit.policy.resolve import resolve_model
from prefkit.training.samples import MAX_TOKENS, sample_answers

POSITIONS = 96


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir):
    return load_tokenizer(resolve_model(str(tiny_model_dir)))


@pytest.fixture
def model(tokenizer):
    """A GPT-2 that has an embedding for each of 96 positions, and never says the end."""
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=POSITIONS, n_embd=16, n_layer=1, n_head=2,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).eval()


def lengths(model, tokenizer, *asked):
    """Tokens of the answers to prompts of so many tokens."""

    def scored(trees: Any) -> Any:
        n = sum(len(branch.ids) for tree in trees for branch in tree.branches)
        return SimpleNamespace(values=torch.zeros(n))

    prompts = [np.full(n, 7, dtype=np.int32) for n in asked]
    found = sample_answers(model, tokenizer, prompts, seed=1, policy=scored, reference=scored)
    assert len(found.prompts) == len(found.texts)
    return [] if found.answer is None else np.bincount(found.answer).tolist()


def test_an_answer_ends_at_the_last_position_and_a_prompt_without_room_is_passed_over(
    model, tokenizer
):
    found = lengths(model, tokenizer, POSITIONS - 3, POSITIONS, POSITIONS + 1, 4)
    assert found == [3, MAX_TOKENS]
    assert lengths(model, tokenizer, POSITIONS) == []


def test_virtual_tokens_take_positions_too(model, tokenizer):
    from peft import PromptTuningConfig, get_peft_model

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    adapted = get_peft_model(model, config).eval()
    assert lengths(adapted, tokenizer, POSITIONS - 5, POSITIONS - 7) == [2]


def test_raw_text_without_a_prompt_is_passed_over(model, tokenizer):
    """There is no token to go on from."""
    assert lengths(model, tokenizer, 0, POSITIONS - 1) == [1]
