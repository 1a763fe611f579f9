"""An adapter goes over the base that it was trained over, wherever that lies, and no other."""

from __future__ import annotations

import random
import shutil

import pytest
from adapters import trained_folder
from planted_pairs import make_pair
from tiny_model import build_tiny_model

from prefkit.core.errors import ModelError
from prefkit.core.files import read_json
from prefkit.engines import job
from prefkit.engines.settings import EngineSettings
from prefkit.policy.adapter_base import FACTS, check_base
from prefkit.policy.load import load_policy
from prefkit.policy.resolve import resolve_model
from prefkit.training import TrainSettings, train
from prefkit.training.merge import merge

PAIRS = [make_pair(random.Random(seed), p=0.9) for seed in range(4)]
PLAIN = {"dtype": "float32", "device": "cpu", "epochs": 1, "trackers": [], "max_steps": 1}


@pytest.fixture(scope="module")
def adapter(tiny_model_dir, tmp_path_factory):
    folder, _ = trained_folder(tiny_model_dir, "lora", tmp_path_factory.mktemp("adapted"))
    return folder


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """A model of the same shape and tokenizer with other weights."""
    return build_tiny_model(tmp_path_factory.mktemp("models") / "stranger", seed=1)


def doors(adapter, model, out):
    """Every way in which an adapter comes over a model."""
    plan = TrainSettings(**PLAIN, reference_store="none")
    other = plan.model_copy(update={"reference": str(adapter)})
    engine = EngineSettings(backend="transformers")
    source = resolve_model(model)
    return {
        "train": lambda: train(model, PAIRS, plan, out=out / "t", start_adapter=adapter),
        "reference": lambda: train(model, PAIRS, other, out=out / "r"),
        "merge": lambda: merge(adapter, out / "m", model=model),
        "load": lambda: load_policy(model, adapter=adapter, device="cpu"),
        "engine": lambda: job.sample(
            [], source=source, adapter=adapter, settings=engine, journal=out / "j"
        ),
    }


@pytest.mark.parametrize("door", ["train", "reference", "merge", "load", "engine"])
def test_an_adapter_of_another_base_is_refused_with_both_names(
    door, adapter, tiny_model_dir, stranger, tmp_path
):
    with pytest.raises(ModelError) as refused:
        doors(adapter, str(stranger), tmp_path)[door]()
    for named in (tiny_model_dir, stranger):
        assert f"{named} " in refused.value.message
        assert resolve_model(str(named)).weights in refused.value.message
    assert f"--model {tiny_model_dir}" in refused.value.hint
    assert not any((tmp_path / name).exists() for name in "trmj")


@pytest.mark.parametrize("door", ["train", "reference", "merge", "load", "engine"])
def test_its_own_base_in_another_folder_with_another_template_is_taken(
    door, adapter, tiny_model_dir, tmp_path
):
    moved = shutil.copytree(tiny_model_dir, tmp_path / "moved")
    (moved / "chat_template.jinja").write_text(
        (moved / "chat_template.jinja").read_text() + "{# edited #}"
    )
    assert resolve_model(str(moved)).digest != resolve_model(str(tiny_model_dir)).digest
    doors(adapter, str(moved), tmp_path)[door]()


def test_whoever_takes_the_facts_away_insists(adapter, stranger, tmp_path):
    plain = shutil.copytree(adapter, tmp_path / "plain")
    source = resolve_model(str(stranger))
    with pytest.raises(ModelError, match="another model"):
        check_base(source, plain)
    (plain / FACTS).unlink()
    check_base(source, plain)


def test_a_server_and_a_model_in_memory_are_not_compared(adapter, tiny_model_dir):
    from prefkit.policy.loaded import loaded_policy

    base = load_policy(str(tiny_model_dir), dtype="float32", device="cpu")
    check_base(loaded_policy(base.model, base.tokenizer).source, adapter)
    served = EngineSettings(backend="server", server_url="http://127.0.0.1:1/v1")
    check_base(job.source_for("any", served), adapter)


def test_the_facts_of_an_adapter_name_its_bases_weights(adapter, tiny_model_dir):
    base = read_json(adapter / FACTS)["base"]
    assert base["weights"] == resolve_model(str(tiny_model_dir)).weights
    assert base["weights"] != base["digest"]
