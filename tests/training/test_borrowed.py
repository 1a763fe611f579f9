"""A model that a caller has in memory comes back from a run as it was, however the run ended."""

from pathlib import Path

import pytest
import torch

import prefkit
from prefkit.core.errors import ConfigError
from prefkit.policy.load import load_policy
from prefkit.policy.loaded import loaded_policy
from prefkit.training import TrainSettings, loop, train


def settings(**changes):
    values = {"dtype": "float32", "device": "cpu", "max_steps": 1, "batch_size": 4}
    return TrainSettings(**{**values, "trackers": [], "reference_store": "none", **changes})


@pytest.fixture
def given(tiny_model_dir):
    """A policy whose layers bring dropout, one of them without a gradient."""
    policy = load_policy(str(tiny_model_dir), dtype="float32", device="cpu")
    for module in policy.model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.1
    policy.model.model.layers[0].mlp.up_proj.weight.requires_grad_(False)
    policy.model.train()
    return loaded_policy(policy.model, policy.tokenizer)


def state_of(model):
    """Everything a run might change: attributes, layers, hooks, gradients, attention."""
    modules = {
        name: {
            key: list(value.items()) if isinstance(value, dict) and key != "_parameters" else value
            for key, value in vars(module).items()
        }
        for name, module in model.named_modules()
    }
    parameters = {
        name: (id(p), p.requires_grad, p.grad is None) for name, p in model.named_parameters()
    }
    return modules, parameters, model.config._attn_implementation


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", ["lora", "dora", "vera", "prompt", "prefix", "full"])
def test_after_a_run_the_model_is_as_it_was(given, pairs, tmp_path, method, checkpointing):
    """Layers under checkpointing are told to read the cache of virtual tokens: that goes too."""
    before = state_of(given.model)
    handle = given.model.lm_head.register_forward_hook(lambda *_: None)
    hooked = state_of(given.model)
    plan = settings(method=method, activation_checkpointing=checkpointing, learning_rate=1e-3)
    train(given, pairs[:4], plan, out=tmp_path)
    assert state_of(given.model) == hooked
    handle.remove()
    assert state_of(given.model) == before, "the caller's own handles still hold"
    assert loaded_policy(given.model, given.tokenizer)


def test_a_run_that_is_refused_while_it_is_made_gives_the_model_back(given, pairs, tmp_path):
    before = state_of(given.model)
    with pytest.raises(ConfigError, match="weights are not 4-bit"):
        train(given, pairs[:4], settings(method="qlora"), out=tmp_path)
    assert state_of(given.model) == before


@pytest.mark.parametrize("kind", [KeyboardInterrupt, torch.OutOfMemoryError, ValueError])
def test_whatever_stops_a_run_once_its_adapter_is_on_the_model_is_given_back(
    given, pairs, tmp_path, monkeypatch, kind
):
    """As the layout is chosen: peft has replaced the layers by then, and on a GPU the attention
    is another."""

    def stop(model, *, longest):
        model.get_base_model().set_attn_implementation("eager")
        raise kind("stopped")

    before = state_of(given.model)
    monkeypatch.setattr(loop, "choose_layout", stop)
    with pytest.raises(Exception if kind is not KeyboardInterrupt else KeyboardInterrupt):
        train(given, pairs[:4], settings(activation_checkpointing=True), out=tmp_path)
    assert state_of(given.model) == before
    monkeypatch.undo()
    assert train(given, pairs[:4], settings(), out=tmp_path).steps == 1


def test_a_folder_may_be_a_path_and_a_bare_model_is_refused_with_the_mend(
    tiny_model_dir, given, pairs, tmp_path
):
    named = prefkit.train(str(tiny_model_dir), pairs[:4], settings(), out=tmp_path / "a")
    path = prefkit.train(Path(tiny_model_dir), pairs[:4], settings(), out=tmp_path / "b")
    assert path.run == named.run
    with pytest.raises(ConfigError, match="model is a LlamaForCausalLM") as caught:
        prefkit.train(given.model, pairs[:4], settings(), out=tmp_path / "c")
    assert "loaded_policy(model, tokenizer)" in (caught.value.hint or "")
