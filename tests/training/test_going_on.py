"""An adapter that is trained further keeps its shape, and settings that say another are refused."""

import json

import pytest

from prefkit.core.errors import ConfigError
from prefkit.training import TrainSettings, train

SHAPE = {"r": 4, "alpha": 12.0, "dropout": 0.05, "targets": ["q_proj", "v_proj"]}


def settings(**changes):
    values = {"dtype": "float32", "device": "cpu", "max_steps": 1, "batch_size": 4}
    return TrainSettings(**{**values, "trackers": [], "reference_store": "none", **changes})


@pytest.fixture(scope="module")
def adapter(tiny_model_dir, pairs, tmp_path_factory):
    plan = settings(lora=SHAPE, method_options={"use_rslora": True})
    return train(str(tiny_model_dir), pairs[:4], plan, out=tmp_path_factory.mktemp("a")).adapter


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora": {"r": 8}}, "lora.r is 8, the adapter's is 4"),
        ({"lora": {"alpha": 16}}, "lora.alpha is 16.0, the adapter's is 12.0"),
        ({"lora": {"dropout": 0.2}}, "lora.dropout is 0.2, the adapter's is 0.05"),
        ({"lora": {"targets": ["k_proj"]}}, "lora.targets is k_proj, the adapter has q_proj"),
        ({"lora": {"targets": ["all-linear", "lm_head"]}}, "lora.targets is all-linear, lm_head"),
        ({"method_options": {"use_rslora": False}}, "method_options.use_rslora is False"),
        ({"method_options": {"rr": 1}}, "method_options.rr is 1, the adapter's is None"),
        ({"lora": {"r": 8}, "method_options": {"rr": 1}}, "; method_options.rr"),
    ],
    ids=str,
)
def test_another_shape_than_the_adapters_is_refused_by_name(
    tiny_model_dir, pairs, tmp_path, adapter, changes, said
):
    with pytest.raises(ConfigError) as caught:
        train(
            str(tiny_model_dir), pairs[:4], settings(**changes), out=tmp_path,
            start_adapter=adapter,
        )  # fmt: skip
    assert said in caught.value.message
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    "changes",
    [{}, {"lora": SHAPE}, {"lora": {"r": 4}}, {"method_options": {"use_rslora": True}}],
    ids=str,
)
def test_prefkit_json_says_what_was_really_trained(
    tiny_model_dir, pairs, tmp_path, adapter, changes
):
    """Also where the settings of before are given again, as a loop's next round does."""
    result = train(
        str(tiny_model_dir), pairs[4:8], settings(**changes), out=tmp_path, start_adapter=adapter
    )
    facts = json.loads((result.folder / "prefkit.json").read_text())
    assert facts["settings"]["lora"] == SHAPE
    assert facts["settings"]["method_options"] == {"use_rslora": True}
    config = json.loads((result.folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (4, 12.0, True)


def test_virtual_tokens_are_counted_as_they_are(tiny_model_dir, pairs, tmp_path):
    model, method = str(tiny_model_dir), {"method": "prompt"}
    first = train(model, pairs[:4], settings(**method, n_virtual_tokens=4), out=tmp_path / "a")
    with pytest.raises(ConfigError, match="n_virtual_tokens is 8, the adapter has 4"):
        train(
            model, pairs[:4], settings(**method, n_virtual_tokens=8), out=tmp_path / "b",
            start_adapter=first.adapter,
        )  # fmt: skip
    again = train(
        model, pairs[:4], settings(**method), out=tmp_path / "c", start_adapter=first.adapter
    )
    facts = json.loads((again.folder / "prefkit.json").read_text())
    assert facts["settings"]["n_virtual_tokens"] == 4
    assert facts["settings"]["method_options"] == {}
