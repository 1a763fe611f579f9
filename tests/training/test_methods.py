"""Every method: starts from the base, trains, leaves, and comes back the same in transformers."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from adapters import IDS, chosen, left, loaded, logits, trained
from transformers import AutoModelForCausalLM, AutoTokenizer

from prefkit.core.errors import ConfigError, MissingExtra
from prefkit.policy.load import load_policy
from prefkit.settings import parse_settings
from prefkit.training.adapter import prepare_model, reference_mode, target_layers
from prefkit.training.adapter_settings import AdapterSettings, LoraSettings
from prefkit.training.methods import METHODS, REFUSED

NAMES = [name for name in METHODS if name != "qlora"]
ADAPTERS = [name for name in NAMES if name != "full"]


@pytest.fixture(scope="module")
def base(tiny_model_dir):
    return logits(loaded(tiny_model_dir).model)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_trains_leaves_and_comes_back_in_transformers_and_peft(
    name, tiny_model_dir, base, tmp_path
):
    policy, settings = loaded(tiny_model_dir), chosen(name)
    model = prepare_model(policy, settings, None, seed=3)
    apart = float((logits(model) - base).abs().max())
    assert (apart < 1e-5) is METHODS[name].starts_at_base
    weights = trained(model)
    after = logits(model)
    assert not torch.allclose(after, base, atol=1e-3)
    folder = left(model, policy, settings, weights, tmp_path)
    if name == "full":
        again = AutoModelForCausalLM.from_pretrained(folder)
        assert AutoTokenizer.from_pretrained(folder).chat_template == policy.tokenizer.chat_template
    else:
        again = peft.PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(tiny_model_dir), folder
        )
    assert torch.allclose(logits(again.eval()), after, atol=1e-6)


@pytest.mark.parametrize("name", ADAPTERS)
def test_only_the_adapter_is_trained_and_switched_off_it_is_the_base(name, tiny_model_dir, base):
    policy = loaded(tiny_model_dir)
    plain = {id(p) for p in policy.model.parameters()}
    model = prepare_model(policy, chosen(name), None, seed=3)
    assert not [n for n, p in model.named_parameters() if p.requires_grad and id(p) in plain]
    trained(model)
    with reference_mode(model):
        assert torch.equal(logits(model), base)
    assert not torch.equal(logits(model), base)
    assert any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_is_its_seeds_alone_and_leaves_the_callers_random_state(name, tiny_model_dir):
    before = torch.get_rng_state()
    states = []
    for seed in (3, 3, 4):
        model = prepare_model(loaded(tiny_model_dir), chosen(name), None, seed=seed)
        states.append({n: p.detach() for n, p in model.named_parameters() if p.requires_grad})
    assert torch.equal(torch.get_rng_state(), before)
    one, same, other = states
    assert all(torch.equal(one[n], same[n]) for n in one)
    # Of some, what is drawn is no parameter (shared projections) or nothing is drawn at all.
    if name in ("lora", "dora", "loha", "prefix", "prompt", "hra"):
        assert not all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize("name", ["lora", "dora", "prefix", "vera"])
def test_training_goes_on_from_what_was_left(name, tiny_model_dir, tmp_path):
    policy, settings = loaded(tiny_model_dir), chosen(name)
    model = prepare_model(policy, settings, None, seed=3)
    weights = trained(model)
    folder = left(model, policy, settings, weights, tmp_path)
    onward = prepare_model(loaded(tiny_model_dir), settings, folder, seed=9)
    assert torch.allclose(logits(onward), logits(model), atol=1e-6)
    assert {n for n, p in onward.named_parameters() if p.requires_grad} == set(weights)


def test_a_prefix_starts_as_the_keys_and_values_of_real_words(tiny_model_dir):
    """What attention sees behind the prefix is what it sees behind the words themselves."""
    policy = loaded(tiny_model_dir)
    model = prepare_model(policy, chosen("prefix"), None, seed=3)
    prompt = prepare_model(loaded(tiny_model_dir), chosen("prompt"), None, seed=3)
    assert torch.allclose(logits(model), logits(prompt), atol=1e-5)


def test_the_head_is_adapted_where_it_is_named_and_the_embedding_stays(tiny_model_dir, base):
    policy = loaded(tiny_model_dir)
    assert policy.model.config.tie_word_embeddings
    settings = chosen("lora", lora=LoraSettings(r=4, targets=["all-linear", "lm_head"]))
    model = prepare_model(policy, settings, None, seed=3)
    assert torch.equal(logits(model), base)
    names = trained(model)
    assert [n for n in names if "lm_head" in n] == [
        "base_model.model.lm_head.lora_A.default.weight",
        "base_model.model.lm_head.lora_B.default.weight",
    ]
    assert not [n for n in names if "embed" in n]
    embedding = model.get_base_model().get_input_embeddings().weight
    assert torch.equal(embedding, loaded(tiny_model_dir).model.get_input_embeddings().weight)


def test_all_linear_leaves_the_head_out(tiny_model_dir):
    model = loaded(tiny_model_dir).model
    layers = target_layers(model, "all-linear")
    assert layers == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    assert target_layers(model, ["all-linear", "lm_head"]) == sorted([*layers, "lm_head"])
    with pytest.raises(ConfigError, match="no linear layer c_attn"):
        target_layers(model, ["c_attn"])


def test_layers_of_gpt2_count_as_linear():
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=50))
    assert target_layers(model, "all-linear") == ["c_attn", "c_fc", "c_proj"]


def test_every_method_of_peft_is_taken_or_refused_with_a_reason():
    ours = {METHODS[name].config for name in METHODS}
    for kind, config in peft.PEFT_TYPE_TO_CONFIG_MAPPING.items():
        name = kind.value.lower()
        assert config.__name__ in ours or name in REFUSED, name


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refused_method_is_named_with_its_reason(name):
    with pytest.raises(ConfigError) as caught:
        parse_settings(AdapterSettings, {}, [f"method={name}"], where="--set")
    assert f"method is '{name}'" in caught.value.message
    assert REFUSED[name][:20] in caught.value.message
    assert "known: lora" in caught.value.message


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["method=lorra"], "did you mean 'lora'"),
        (["method=hra", "lora.dropout=0.1"], "method hra has none"),
        (["method=full", "method_options={use_rslora: true}"], "method full takes none"),
    ],
)
def test_what_does_not_go_together_is_refused_by_the_settings(given, words):
    with pytest.raises(ConfigError, match=words):
        parse_settings(AdapterSettings, {}, given, where="--set")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"no_such": 1}, "no_such"), ({"r": 8}, "prefkit sets it itself")],
)
def test_an_option_that_peft_does_not_take_is_named(options, words, tiny_model_dir):
    with pytest.raises(ConfigError, match=words):
        prepare_model(loaded(tiny_model_dir), chosen("lora", method_options=options), None, seed=0)


def test_an_option_of_peft_reaches_the_adapter(tiny_model_dir, tmp_path):
    policy, settings = loaded(tiny_model_dir), chosen("lora", method_options={"use_rslora": True})
    model = prepare_model(policy, settings, None, seed=3)
    folder = left(model, policy, settings, trained(model), tmp_path)
    assert json.loads((folder / "adapter_config.json").read_text())["use_rslora"] is True


@pytest.mark.parametrize(
    "options",
    [
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": False},
        {"bias": "all"},
        {"inference_mode": True},
    ],
    ids=str,
)
def test_an_option_by_which_the_model_without_adapter_is_another_is_refused(
    options, tiny_model_dir
):
    """PiSSA takes a part of the weights into the adapter: switched off, the rest is no reference,
    and in the store its log-probs would stand under the name of the whole model."""
    with pytest.raises(ConfigError, match=f"method_options.{next(iter(options))}"):
        prepare_model(loaded(tiny_model_dir), chosen("lora", method_options=options), None, seed=0)


def test_only_lora_trains_the_head(tiny_model_dir):
    settings = chosen("dora", lora=LoraSettings(r=4, targets=["lm_head"]))
    with pytest.raises(ConfigError, match="does not train the head"):
        prepare_model(loaded(tiny_model_dir), settings, None, seed=0)


def test_a_start_adapter_of_another_method_is_refused(tiny_model_dir, tmp_path):
    policy, settings = loaded(tiny_model_dir), chosen("dora")
    model = prepare_model(policy, settings, None, seed=3)
    folder = left(model, policy, settings, trained(model), tmp_path)
    with pytest.raises(ConfigError, match="adapter of method dora"):
        prepare_model(loaded(tiny_model_dir), chosen("lora"), folder, seed=0)
    with pytest.raises(ConfigError, match="method full") as caught:
        prepare_model(loaded(tiny_model_dir), chosen("full"), folder, seed=0)
    assert "prefkit merge" in (caught.value.hint or "")


def test_qlora_on_a_cpu_is_refused_by_name(tiny_model_dir):
    with pytest.raises(ConfigError, match=r"4-bit weights \(method qlora\) need a CUDA") as caught:
        load_policy(str(tiny_model_dir), device="cpu", quantize=True)
    assert "method lora" in (caught.value.hint or "")
    with pytest.raises(ConfigError, match="not 4-bit"):
        prepare_model(loaded(tiny_model_dir), chosen("qlora"), None, seed=0)


@pytest.mark.gpu
def test_qlora_trains_over_four_bit_weights(tiny_model_dir, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    try:
        policy = load_policy(str(tiny_model_dir), device="cuda", quantize=True)
    except MissingExtra as error:
        pytest.skip(str(error))
    model = prepare_model(policy, chosen("qlora"), None, seed=3)
    before = model(input_ids=IDS.cuda()).logits.detach()
    (-model(input_ids=IDS.cuda()).logits.log_softmax(-1)[:, -1, 7].sum()).backward()
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p -= p.grad
    assert not torch.equal(model(input_ids=IDS.cuda()).logits, before)
    weights = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    folder = left(model, policy, chosen("qlora"), weights, tmp_path)
    load_policy(str(tiny_model_dir), adapter=folder, dtype="float32", device="cpu")
