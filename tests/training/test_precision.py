"""A run says in which precision it computes, before its first step and in its result."""

from __future__ import annotations

import html

import pytest

from prefkit.core.files import read_json
from prefkit.policy.load import load_policy
from prefkit.policy.loaded import loaded_policy
from prefkit.training import TrainSettings, train
from prefkit.training.result import MANIFEST


def settings(dtype):
    return TrainSettings(
        dtype=dtype, device="cpu", max_steps=1, trackers=["tensorboard"], reference_store="none"
    )


@pytest.mark.parametrize(
    ("asked", "dtype", "trained", "told"),
    [
        ("auto", "bfloat16", "float32", "bfloat16 (the model's files: float32); what is trained"),
        ("float32", "float32", "float32", "float32; what is trained is updated in float32"),
        ("float64", "float64", "float64", "float64 (the model's files: float32); what is trained"),
    ],
)
def test_the_precision_is_told_first_and_kept(
    tiny_model_dir, pairs, tmp_path, asked, dtype, trained, told
):
    calls = []
    result = train(
        str(tiny_model_dir),
        pairs[:4],
        settings(asked),
        out=tmp_path,
        progress=lambda what, *rest: calls.append((what, rest[-1])),
    )
    said = [note for what, note in calls if what == "precision"]
    assert len(said) == 1
    assert said[0].startswith(told)
    names = [what for what, _ in calls]
    assert names.index("precision") < names.index("training")
    kept = read_json(tmp_path / MANIFEST)["result"]
    assert (kept["dtype"], kept["trained_dtype"], kept["stored_dtype"]) == (
        dtype,
        trained,
        "float32",
    )
    assert result.facts()["precision"] == said[0]
    assert said[0].split(";")[0] in html.unescape((tmp_path / "report.html").read_text())


def test_a_model_in_memory_keeps_its_own_precision(tiny_model_dir, pairs, tmp_path):
    held = load_policy(str(tiny_model_dir), dtype="float32", device="cpu")
    policy = loaded_policy(held.model, held.tokenizer)
    result = train(policy, pairs[:4], settings("auto"), out=tmp_path)
    assert (result.dtype, result.stored_dtype) == ("float32", "float32")
