"""The fused log-probabilities against a naive one: a row at a time, all logits, in fp64."""

import peft
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
)

from prefkit.policy import logps
from prefkit.policy.logps import completion_logps
from prefkit.policy.template import TokenRow

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}


@pytest.fixture(scope="module")
def llama(tiny_model_dir):
    return AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()


def naive(model, row):
    """Σ_t log softmax(logits)[t, next token], from all logits, in fp64."""
    logits = model(torch.tensor([row.ids])).logits[0].double()
    table = torch.log_softmax(logits, dim=-1)
    return sum(table[t - 1, row.ids[t]] for t in range(row.n_prompt, len(row.ids)))


row = st.builds(
    lambda prompt, answer: TokenRow((*prompt, *answer), len(prompt)),
    st.lists(st.integers(0, 90), min_size=1, max_size=20),
    st.lists(st.integers(0, 90), min_size=1, max_size=20),
)


@given(rows=st.lists(row, min_size=1, max_size=5))
def test_log_probs_equal_the_naive_ones_whatever_the_company(llama, rows):
    with torch.no_grad():
        found = completion_logps(llama, rows, pad_id=0)
        wanted = torch.stack([naive(llama, r) for r in rows])
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-4)


@given(rows=st.lists(row, min_size=2, max_size=5), chunk=st.sampled_from([1, 400, 3000]))
def test_gradients_equal_the_naive_ones_whatever_the_chunk(llama, rows, chunk):
    parameters = list(llama.parameters())
    scale = torch.arange(1.0, len(rows) + 1)
    before, logps.CHUNK_LOGITS = logps.CHUNK_LOGITS, chunk
    try:
        fused = (completion_logps(llama, rows, pad_id=0) * scale).sum()
        found = torch.autograd.grad(fused, parameters)
    finally:
        logps.CHUNK_LOGITS = before
    wanted = torch.autograd.grad(
        sum(naive(llama, r) * s for r, s in zip(rows, scale, strict=True)), parameters
    )
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@given(rows=st.lists(row, min_size=2, max_size=5), pad=st.integers(0, 90))
def test_the_pad_token_and_the_order_of_rows_change_nothing(llama, rows, pad):
    with torch.no_grad():
        one = completion_logps(llama, rows, pad_id=0)
        other = completion_logps(llama, rows[::-1], pad_id=pad).flip(0)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


MODELS = {
    # a soft cap on the logits, and sliding-window layers
    "gemma2": lambda: Gemma2ForCausalLM(
        Gemma2Config(**SHAPE, num_key_value_heads=2, head_dim=8, final_logit_softcapping=2.0)
    ),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**SHAPE, logit_scale=0.25)),
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**SHAPE, logits_scaling=4.0)),
    # a head called embed_out, a backbone called gpt_neox
    "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE)),
}


@pytest.mark.parametrize("name", MODELS)
def test_heads_that_scale_or_cap_their_logits_are_followed(name):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = MODELS[name]().eval()
    rows = [TokenRow((5, 9, 3, 7, 11), 2), TokenRow((5, 8, 20, 21, 22, 23, 24), 4)]
    with torch.no_grad():
        found = completion_logps(model, rows, pad_id=0)
        wanted = torch.stack([naive(model, r) for r in rows])
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-4)


def test_a_peft_model_is_scored_with_its_adapter_and_without(tiny_model_dir):
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    rows = [TokenRow((5, 9, 3, 7, 11), 2)]
    with torch.no_grad():
        bare = completion_logps(model, rows, pad_id=0)
        config = peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
        wrapped = peft.get_peft_model(model, config).eval()
        with_adapter = completion_logps(wrapped, rows, pad_id=0)
        assert torch.allclose(with_adapter.double(), naive(wrapped, rows[0]), atol=1e-4)
        assert not torch.allclose(with_adapter, bare, atol=1e-3)
        with wrapped.disable_adapter():
            assert torch.equal(completion_logps(wrapped, rows, pad_id=0), bare)
