"""Which architectures share prompts: a tiny random model of each family, scored both ways."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from tree_cases import make_tree, naive_logps, random_trees

from prefkit.core.errors import ModelError
from prefkit.policy import layout as layouts
from prefkit.policy.layout import choose_layout, unshareable
from prefkit.policy.load import load_policy
from prefkit.policy.logps import tree_logps

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
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOW = 8
MIXED = ["sliding_attention", "full_attention"]

# model_type → what differs from SHAPE.
SHARING: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {},
    "gemma": {},
    "gemma2": {"final_logit_softcapping": 2.0, "sliding_window": 64},
    "gemma3_text": {"final_logit_softcapping": 3.0, "sliding_window": 64},
    "phi": {},
    "phi3": {},
    "gpt2": {},
    "gptj": {"rotary_dim": 8},
    "gpt_neox": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "falcon": {"alibi": False, "head_dim": "absent"},
    "olmo2": {},
    "smollm3": {},
    "granite": {"logits_scaling": 4.0},
    "cohere": {"logit_scale": 0.25},
    "stablelm": {},
    "starcoder2": {},
    "qwen2_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "nanochat": {},
}
PADDING: dict[str, tuple[dict[str, Any], str]] = {
    "mistral": ({"sliding_window": WINDOW}, "within 8 tokens"),
    "gemma2": ({"sliding_window": WINDOW, "layer_types": MIXED}, "within 8 tokens"),
    "bloom": ({}, "ALiBi"),
    "mpt": ({"d_model": 32, "n_heads": 4, "n_layers": 2}, "ALiBi"),
    "falcon": ({"alibi": True, "head_dim": "absent"}, "ALiBi"),
    "mamba": ({}, "carry a state"),
    "qwen3_next": (
        {
            "layer_types": ["linear_attention", "full_attention"],
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
        },
        "linear_attention",
    ),
    "recurrent_gemma": ({"lru_width": 32}, "state"),
}


def tiny(family: str, changes: dict[str, Any], **extra: Any) -> Any:
    """A random model of ``family`` in fp64, the same at every call."""
    given = {name: value for name, value in {**SHAPE, **changes}.items() if value != "absent"}
    config = transformers.AutoConfig.for_model(family, **given)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = transformers.AutoModelForCausalLM.from_config(config, **extra)
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    # Experts multiply in groups, for which there is no fp64 kernel.
    return (model.float() if "num_experts" in changes else model.double()).eval()


def longest(trees) -> int:
    return max(tree.longest for tree in trees)


def relative(one, other) -> float:
    return float((one - other).norm() / (other.norm() + 1e-12))


@pytest.mark.parametrize("family", SHARING)
def test_a_shared_prompt_gives_the_values_and_gradients_of_separate_rows(family):
    """Values to 1e-10. Gradients to 1e-5 of their size: most families round to fp32 in their norms
    (test_logps.py holds gradients to 1e-10 where nothing does)."""
    model, trees = tiny(family, SHARING[family]), random_trees(11)
    layout = choose_layout(model, longest=longest(trees))
    assert layout.kind == "tree", layout.reason
    check_against_naive(model, trees, layout)


@pytest.mark.parametrize("family", PADDING)
def test_what_cannot_share_a_prompt_is_told_and_scored_a_row_an_answer(family):
    changes, why = PADDING[family]
    model, trees = tiny(family, changes), random_trees(11)
    layout = choose_layout(model, longest=longest(trees))
    assert layout.kind == "padded"
    assert why in layout.reason
    check_against_naive(model, trees, layout)


def check_against_naive(model, trees, layout):
    found, wanted = tree_logps(model, trees, layout=layout).values, naive_logps(model, trees)
    # Eager attention takes its softmax in fp32 whatever the model is in, Mamba gives fp32 logits.
    exact = wanted.dtype == torch.float64 and model.config._attn_implementation == "sdpa"
    tolerance = 1e-10 if exact else 1e-5
    torch.testing.assert_close(found, wanted.to(found.dtype), rtol=tolerance, atol=tolerance)
    upstream = torch.linspace(-1, 2, len(found), dtype=found.dtype)
    pairs = [
        torch.autograd.grad(v @ upstream, list(model.parameters()), allow_unused=True)
        for v in (found, wanted.to(found.dtype))
    ]
    for (name, _), one, other in zip(model.named_parameters(), *pairs, strict=True):
        assert (one is None) == (other is None), name
        if one is not None:
            # Recurrent layers in fp32 with more threads were seen 1.5e-5 apart.
            assert relative(one, other) < 5e-5 or float(other.norm()) < 1e-5, name


def test_a_window_no_shorter_than_the_longest_row_shares():
    model = tiny("mistral", {"sliding_window": WINDOW})
    trees = [make_tree([5, 6, 7], [8, 9, 10, 11, 12], [4, 3])]
    assert longest(trees) == WINDOW
    layout = choose_layout(model, longest=WINDOW)
    assert layout.kind == "tree"
    check_against_naive(model, trees, layout)


def test_eager_attention_shares_through_an_additive_mask():
    """A boolean mask, which eager attention would add as 0 and 1, would hide nothing."""
    model, trees = tiny("llama", {}, attn_implementation="eager"), random_trees(11)
    layout = choose_layout(model, longest=longest(trees))
    assert layout.kind == "tree"
    check_against_naive(model, trees, layout)


def test_an_unknown_finish_of_logits_is_found_by_the_models_own():
    model = tiny("cohere", {"logit_scale": 0.25})
    model.config.logit_scale = 1.0
    with pytest.raises(ModelError, match="from the model's own"):
        choose_layout(model, longest=40)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_real_model_shares_in_half_precision_too(smollm2, dtype):
    """Rounding differs between layouts by tenths of a nat in bf16; that is no reason to pad."""
    policy = load_policy(smollm2, dtype=dtype, device="cpu")
    layout = choose_layout(policy.model, longest=500)
    assert layout.kind == "tree", layout.reason


def test_an_encoder_decoder_model_is_refused():
    config = transformers.T5Config(vocab_size=20, d_model=8, d_kv=4, num_layers=1, num_heads=2)
    with pytest.raises(ModelError, match="encoder-decoder"):
        choose_layout(transformers.T5ForConditionalGeneration(config), longest=9)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_rows_that_would_stretch_the_rotary_frequencies_are_refused(kind):
    """A pass takes them from its longest row, so packs would change log-probs."""
    rope = {"rope_type": kind, "rope_theta": 1e4, "factor": 2.0}
    if kind == "longrope":
        rope |= {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
        rope |= {"original_max_position_embeddings": 64}
    model = tiny("llama", {"rope_parameters": rope})
    limit = 64 if kind == "longrope" else SHAPE["max_position_embeddings"]
    assert choose_layout(model, longest=limit).kind == "tree"
    with pytest.raises(ModelError, match=f"beyond {limit} tokens") as caught:
        choose_layout(model, longest=limit + 1)
    assert caught.value.hint == f"set max_length to {limit} or less"


def test_a_reward_model_shares_prompts_too():
    config = transformers.AutoConfig.for_model("llama", **SHAPE, num_labels=1)
    model = transformers.AutoModelForSequenceClassification.from_config(config).double().eval()
    assert choose_layout(model, longest=40).kind == "tree"


def test_a_kernel_that_fails_the_probe_is_taken_back(monkeypatch):
    """On CUDA a model is switched to FlexAttention to be tried; here by hand, on the CPU."""

    def switched(causal):
        causal.set_attn_implementation("flex_attention")
        return "flex"

    model = tiny("llama", {})
    monkeypatch.setattr(layouts, "_kernel", switched)
    monkeypatch.setattr(layouts, "TOLERANCE", dict.fromkeys(layouts.TOLERANCE, -1.0))
    assert choose_layout(model, longest=40).kind == "padded"
    assert model.config._attn_implementation == "sdpa"


def test_choosing_leaves_training_mode_as_it_was():
    model = tiny("llama", {})
    model.train()
    choose_layout(model, longest=40)
    assert model.training


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda config: config.rope_parameters.update(mrope_section=[1, 1, 2]), "mRoPE"),
        (lambda config: setattr(config, "layer_types", ["chunked_attention"] * 2), "chunked"),
        (
            lambda config: setattr(config, "_attn_implementation_internal", "flash_attention_2"),
            "'flash_attention_2' takes no mask",
        ),
    ],
    ids=["mrope", "chunked", "flash"],
)
def test_the_configuration_alone_rules_sharing_out(change, why):
    model = tiny("llama", {})
    assert unshareable(model, 40) is None
    change(model.config)
    assert why in (unshareable(model, 40) or "")


def test_what_the_configuration_hides_is_found_by_trying():
    """A model that adds what stands before it in the row, whatever its configuration says."""
    model = tiny("llama", {})
    layer = model.model.layers[0]
    layer.register_forward_hook(lambda _, __, out: out + 0.1 * out.cumsum(1))
    layout = choose_layout(model, longest=40)
    assert layout.kind == "padded"
    assert "sharing changed log-probs of llama" in layout.reason
