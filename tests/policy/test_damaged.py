"""Damaged models and adapters are named with the mend, never with a traceback."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_adapter import build_tiny_adapter

from prefkit.core.errors import ModelError
from prefkit.policy.load import load_policy
from prefkit.policy.resolve import resolve_model


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PREFKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def adapter_dir(tiny_model_dir, tmp_path_factory):
    return build_tiny_adapter(tiny_model_dir, tmp_path_factory.mktemp("adapters") / "tiny")


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


MODELS = {
    "a type that is none": lambda d: edit(d / "config.json", hidden_size="wide"),
    "sizes that are not the weights'": lambda d: edit(d / "config.json", intermediate_size=7),
    "a tokenizer that is no JSON": lambda d: (d / "tokenizer.json").write_text("hello"),
    "an empty tokenizer": lambda d: (d / "tokenizer.json").write_text("{}"),
    "weights cut short": lambda d: cut(d / "model.safetensors"),
}
ADAPTERS = {
    "weights cut short": lambda d: cut(d / "adapter_model.safetensors"),
    "a list for its configuration": lambda d: (d / "adapter_config.json").write_text("[]"),
    "a rank that is no number": lambda d: edit(d / "adapter_config.json", r="x"),
    "layers that are no names": lambda d: edit(d / "adapter_config.json", target_modules=3),
}


@pytest.mark.parametrize("damage", MODELS.values(), ids=MODELS.keys())
def test_a_damaged_model_is_named(damage, tiny_model_dir, tmp_path):
    folder = shutil.copytree(tiny_model_dir, tmp_path / "model")
    damage(folder)
    with pytest.raises(ModelError, match=str(folder)) as caught:
        load_policy(str(folder))
    assert caught.value.hint


@pytest.mark.parametrize("damage", ADAPTERS.values(), ids=ADAPTERS.keys())
def test_a_damaged_adapter_is_named(damage, adapter_dir, tiny_model_dir, tmp_path):
    folder = shutil.copytree(adapter_dir, tmp_path / "adapter")
    damage(folder)
    with pytest.raises(ModelError, match=str(folder)) as caught:
        load_policy(str(tiny_model_dir), adapter=folder)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["org/two..dots", "org/ends--"])
def test_a_name_that_the_hub_refuses_is_no_model(name):
    with pytest.raises(ModelError, match="not the name of a model"):
        resolve_model(name)
