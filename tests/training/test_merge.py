"""A merged model answers as the adapter over its base did, in plain transformers."""

from __future__ import annotations

import pytest
import torch
from adapters import HEAD, loaded, logits, trained_folder
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from prefkit.cli.app import app
from prefkit.core.errors import ConfigError, ModelError
from prefkit.core.files import read_json
from prefkit.training.adapter_settings import LoraSettings
from prefkit.training.merge import merge
from prefkit.training.methods import METHODS

MERGING = [name for name, method in METHODS.items() if method.merges and name != "qlora"]


@pytest.mark.parametrize("name", MERGING)
def test_a_merged_model_answers_as_the_adapter_did(name, tiny_model_dir, tmp_path):
    adapter, after = trained_folder(tiny_model_dir, name, tmp_path)
    merged = merge(adapter, tmp_path / "merged")
    plain = AutoModelForCausalLM.from_pretrained(merged.folder)
    assert torch.allclose(logits(plain), after, atol=2e-5)
    assert merged.n_layers == 14  # seven linear layers in each of two blocks
    assert merged.rounding < 1e-6
    assert not merged.untied
    # The folder is a model as --model takes it, the tokenizer and template included.
    assert torch.allclose(logits(loaded(merged.folder).model), after, atol=2e-5)


def test_a_merged_head_leaves_the_tied_embedding_alone(tiny_model_dir, tmp_path):
    lora = LoraSettings(r=4, targets=HEAD)
    adapter, after = trained_folder(tiny_model_dir, "lora", tmp_path, lora=lora)
    merged = merge(adapter, tmp_path / "merged")
    assert merged.untied
    plain = AutoModelForCausalLM.from_pretrained(merged.folder)
    assert plain.config.tie_word_embeddings is False
    assert torch.allclose(logits(plain), after, atol=2e-5)
    weights = load_file(merged.folder / "model.safetensors")
    base = load_file(tiny_model_dir / "model.safetensors")
    embedding = "model.embed_tokens.weight"
    assert torch.equal(weights[embedding], base[embedding])
    assert not torch.equal(weights["lm_head.weight"], base[embedding])


def test_what_rounding_took_is_measured_on_the_stored_weights(tiny_model_dir, tmp_path):
    """‖stored − exact‖ / ‖exact − base‖ from the files of an fp32 and a bf16 merge."""
    adapter, _ = trained_folder(tiny_model_dir, "lora", tmp_path)
    exact = merge(adapter, tmp_path / "exact", dtype="float32")
    short = merge(adapter, tmp_path / "short", dtype="bfloat16")
    files = [f / "model.safetensors" for f in (exact.folder, short.folder, tiny_model_dir)]
    whole, rounded, base = (load_file(path) for path in files)
    layers = [name for name in whole if "proj" in name]
    assert rounded[layers[0]].dtype == torch.bfloat16

    def norm(one, other):
        return sum((one[n].double() - other[n].double()).square().sum() for n in layers) ** 0.5

    assert short.rounding == pytest.approx(
        float(norm(rounded, whole) / norm(whole, base)), rel=1e-4
    )
    assert 0.001 < short.rounding < 0.5


@pytest.mark.parametrize("name", ["prefix", "prompt"])
def test_virtual_tokens_are_not_merged(name, tiny_model_dir, tmp_path):
    adapter, _ = trained_folder(tiny_model_dir, name, tmp_path)
    with pytest.raises(ModelError, match=f"virtual tokens .method {name}"):
        merge(adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_folder_of_other_things_is_not_replaced(tiny_model_dir, tmp_path):
    adapter, _ = trained_folder(tiny_model_dir, "lora", tmp_path)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("do not lose")
    for out in (mine, adapter, tiny_model_dir):
        with pytest.raises(ConfigError, match="no model that prefkit merged"):
            merge(adapter, out)
    assert (mine / "thesis.txt").read_text() == "do not lose"


def test_a_merged_model_is_replaced_only_when_asked_to(tiny_model_dir, tmp_path):
    adapter, _ = trained_folder(tiny_model_dir, "lora", tmp_path)
    first = merge(adapter, tmp_path / "merged", dtype="bfloat16")
    stamp = (first.folder / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(ConfigError, match="holds a merged model already") as caught:
        merge(adapter, tmp_path / "merged")
    assert "--overwrite" in caught.value.hint
    assert (first.folder / "model.safetensors").stat().st_mtime_ns == stamp
    again = merge(adapter, tmp_path / "merged", overwrite=True)
    assert (first.dtype, again.dtype) == ("bfloat16", "float32")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "merged"]


def test_the_base_itself_is_not_replaced(tiny_model_dir, tmp_path):
    first, _ = trained_folder(tiny_model_dir, "lora", tmp_path / "first")
    base = merge(first, tmp_path / "base").folder
    second, _ = trained_folder(base, "lora", tmp_path / "second")
    with pytest.raises(ConfigError, match="this is the base model itself"):
        merge(second, base, overwrite=True)


def test_an_adapter_of_another_tool_merges_too(tiny_model_dir, tmp_path):
    from tiny_adapter import build_tiny_adapter

    adapter = build_tiny_adapter(tiny_model_dir, tmp_path / "theirs")
    merged = merge(adapter, tmp_path / "merged", model=str(tiny_model_dir))
    facts = read_json(merged.folder / "prefkit.json")
    assert facts["form"] == "merged"
    assert facts["data"] is None
    assert "## Data" not in (merged.folder / "README.md").read_text()


def test_the_verb_says_what_was_written(tiny_model_dir, tmp_path):
    adapter, _ = trained_folder(tiny_model_dir, "dora", tmp_path)
    done = CliRunner().invoke(app, ["merge", str(adapter), "--out", str(tmp_path / "m")])
    assert done.exit_code == 0, done.output
    assert "float32" in done.stdout
    assert "14" in done.stdout
    assert f"--model {tmp_path / 'm'}" in done.stdout.replace("\n", "")
