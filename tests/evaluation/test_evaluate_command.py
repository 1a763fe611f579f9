"""prefkit evaluate, as a user types it, and evaluate() with a real model and adapter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_adapter import build_tiny_adapter

from prefkit.core.records import Message, Prompt
from prefkit.engines.settings import EngineSettings
from prefkit.evaluation import EvaluateSettings, evaluate


@pytest.fixture(scope="module")
def adapter(tiny_model_dir, tmp_path_factory) -> Path:
    return build_tiny_adapter(tiny_model_dir, tmp_path_factory.mktemp("adapter"))


def prefkit(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prefkit", "evaluate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def prompts_file(folder: Path) -> Path:
    """Six held-out prompts, three without the rule's tag, and two to train on."""
    rows = [
        {
            "prompt": f"What is thing {i}?",
            "tags": {"split": "heldout" if i < 6 else "train"}
            | ({"format": "max_words:8"} if i % 2 else {}),
        }
        for i in range(8)
    ]
    path = folder / "prompts.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_win_rate_with_its_interval_lengths_and_samples(tiny_model_dir, adapter, tmp_path):
    arguments = [prompts_file(tmp_path), "--model", tiny_model_dir, "--adapter", adapter]
    arguments += ["--backend", "transformers", "--max-tokens", 8, "--out", tmp_path / "out"]
    done = prefkit(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout.splitlines()[-1])
    assert (value["n_prompts"], value["n_skipped"], value["n_left_out"]) == (3, 3, 2)
    assert value["n_wins"] + value["n_ties"] + value["n_losses"] == 3
    low, high = value["ci95"]
    assert 0 <= low < value["win_rate"] + 1e-9
    assert value["win_rate"] - 1e-9 < high <= 1
    lines = Path(value["samples"]).read_text(encoding="utf-8").splitlines()
    samples = [json.loads(line) for line in lines]
    assert len(samples) == 6
    assert any(sample["base"] != sample["new"] for sample in samples)
    assert [s["outcome"] is None for s in samples] == [s["new_score"] is None for s in samples]


@pytest.mark.slow
def test_answers_are_kept_and_not_asked_for_again(tiny_model_dir, adapter, tmp_path):
    asked = [Prompt.make([Message.of("user", f"What is {i}?")]) for i in range(3)]
    settings = EvaluateSettings(max_tokens=6, engine=EngineSettings(backend="transformers"))
    seen: list[str] = []

    def run(against):
        seen.clear()
        return evaluate(
            str(tiny_model_dir),
            adapter if against is None else None,
            asked,
            lambda prompt, new, base: 0.5 if new == base else 1.0,
            settings,
            against=against,
            journal=tmp_path,
            progress=lambda what, done, total=None: seen.append(what),
        )

    first = run(None)
    assert seen
    swapped = run(adapter)
    assert seen == []  # both policies had answered
    assert [(s.base, s.new) for s in first.samples] == [(s.new, s.base) for s in swapped.samples]


def test_faults_are_one_line_with_a_mend_and_exit_code_1(adapter, tmp_path):
    path = prompts_file(tmp_path)
    for arguments, said in (
        ((path,), "both sides are the same policy"),
        ((path, "--adapter", adapter, "--rule", "fromat"), "did you mean 'format'"),
        ((path, "--adapter", adapter, "--max-tokens", 0), "max_tokens is 0"),
        ((tmp_path / "none.jsonl", "--adapter", adapter), "none.jsonl"),
        ((path, "--adapter", tmp_path, "--backend", "scripted"), "not an adapter folder"),
    ):
        done = prefkit(*arguments, "--out", tmp_path / "out")
        assert done.returncode == 1, (arguments, done.stderr)
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
