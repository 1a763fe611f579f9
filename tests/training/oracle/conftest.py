"""TRL 1.16.0, built once on the tiny model; without it these tests are skipped."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from components import require_component

TRL = "1.16.0"


@pytest.fixture(scope="session")
def trl() -> str:
    """The version of TRL; skips where it is not the one that parity is stated for."""
    if importlib.util.find_spec("trl") is None:
        require_component("trl", "the package trl is not installed (extra: oracles)")
    if version("trl") != TRL:
        require_component("trl", f"trl is {version('trl')}, parity is stated for {TRL}")
    return TRL


@pytest.fixture(autouse=True)
def accelerator(trl: str) -> Iterator[None]:
    """accelerate's process-wide state, which every new configuration of TRL throws away, for the
    trainers that live through the session; no other test finds it."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    Accelerator(cpu=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def grid_folder(trl: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where TRL's trainers may write."""
    return tmp_path_factory.mktemp("trl")


@pytest.fixture(scope="session")
def dpo(grid_folder: Path, tiny_model_dir: Path) -> Any:
    """TRL's DPOTrainer."""
    from training.oracle.parity_grid import dpo_trainer

    return dpo_trainer(tiny_model_dir, grid_folder / "dpo")


@pytest.fixture(scope="session")
def kto(grid_folder: Path, tiny_model_dir: Path) -> Any:
    """TRL's KTOTrainer."""
    from training.oracle.parity_others import kto_trainer

    return kto_trainer(tiny_model_dir, grid_folder / "kto")
