"""Sharing a prompt's work changes no log-prob and no gradient."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from prefkit.policy.logps import completion_logps
from prefkit.policy.shared_prompt import _shares, pair_logps
from prefkit.policy.template import TokenRow

tokens = st.lists(st.integers(0, 90), min_size=1, max_size=12)
pair = st.builds(
    lambda p, c, r: (TokenRow((*p, *c), len(p)), TokenRow((*p, *r), len(p))), tokens, tokens, tokens
)
SHAPE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}


@pytest.fixture(scope="module")
def models(tiny_model_dir):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return {
            "llama": AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32),
            "qwen3": Qwen3ForCausalLM(Qwen3Config(**SHAPE)),
            "gemma2": Gemma2ForCausalLM(Gemma2Config(**SHAPE, sliding_window=4)),
        }


def apart(model, pairs):
    rows = [c for c, _ in pairs] + [r for _, r in pairs]
    return completion_logps(model, rows, pad_id=0).view(2, -1).T


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2"])
@given(pairs=st.lists(pair, min_size=1, max_size=4))
def test_a_shared_prompt_gives_the_log_probs_of_separate_rows(models, name, pairs):
    model = models[name]
    assert _shares(model.config) == (name != "gemma2"), "sliding windows fall back"
    with torch.no_grad():
        torch.testing.assert_close(
            pair_logps(model, pairs, pad_id=0), apart(model, pairs), rtol=1e-5, atol=2e-4
        )


@given(pairs=st.lists(pair, min_size=1, max_size=3))
def test_a_shared_prompt_gives_the_gradients_of_separate_rows(models, pairs):
    model = models["llama"]
    parameters = list(model.parameters())
    scale = torch.tensor([1.0, -0.5])
    found = torch.autograd.grad((pair_logps(model, pairs, pad_id=0) * scale).sum(), parameters)
    wanted = torch.autograd.grad((apart(model, pairs) * scale).sum(), parameters)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_pairs_with_different_prompts_are_scored_apart(models):
    pairs = [(TokenRow((1, 2, 3), 2), TokenRow((1, 4, 5, 6), 2))]
    with torch.no_grad():
        assert torch.equal(
            pair_logps(models["llama"], pairs, pad_id=0), apart(models["llama"], pairs)
        )
