"""Where a killed run goes on: one file a checkpoint, whole or absent.

Holds the fp32 masters, the optimiser's state, the EMA reference and the best state if there are
any, the random state and the step. The order of data and the learning rate are functions of the
seed and the step, so they need no place here.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from prefkit.core.files import replacing
from prefkit.training.average import MovingAverage
from prefkit.training.masters import Masters

FOLDER = "checkpoints"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A readable checkpoint of this very run, and the step after which it was written."""

    path: Path
    step: int


@dataclass(slots=True)
class State:
    """What changes while a run goes on. best: the masters of the best evaluation so far."""

    masters: Masters
    optimizer: torch.optim.Optimizer
    average: MovingAverage | None = None
    best: Mapping[str, Tensor] | None = None
    scale: float = 1.0

    def tensors(self) -> dict[str, Tensor]:
        """Everything by a name of its own."""
        named = {f"master/{name}": value for name, value in self.masters.values.items()}
        for name, master in self.masters.values.items():
            for key, value in self.optimizer.state.get(master, {}).items():
                if isinstance(value, Tensor):
                    named[f"optimizer/{key}/{name}"] = value
        if self.average is not None:
            named |= {f"average/{name}": value for name, value in self.average.values.items()}
        named |= {f"best/{name}": value for name, value in (self.best or {}).items()}
        named["scale"] = torch.tensor(self.scale)
        named["rng/cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            named["rng/cuda"] = torch.cuda.get_rng_state()
        return named

    def load(self, named: Mapping[str, Tensor]) -> None:
        """Become what ``tensors`` said."""
        self.masters.load(_part(named, "master/"))
        for key, value in _part(named, "optimizer/").items():
            kind, _, name = key.partition("/")
            master = self.masters.values[name]
            place = torch.device("cpu") if kind == "step" else master.device
            self.optimizer.state[master][kind] = value.to(place)
        if self.average is not None:
            self.average.load(_part(named, "average/"))
        self.best = _part(named, "best/") or None
        self.scale = float(named["scale"])
        torch.set_rng_state(named["rng/cpu"])
        if "rng/cuda" in named and torch.cuda.is_available():
            torch.cuda.set_rng_state(named["rng/cuda"])


def save(out: Path, step: int, state: State, *, run: str, part: str = "") -> None:
    """Write the checkpoint of ``step`` and remove older ones. part: "" or the rank's own part."""
    path = out / FOLDER / f"step-{step:08d}{part}.safetensors"
    write_tensors(path, state.tensors(), {"run": run, "step": str(step)})
    for older in path.parent.glob(f"step-????????{part}.safetensors"):
        if older.name < path.name:
            older.unlink(missing_ok=True)


def latest(out: Path, *, run: str, part: str = "") -> Checkpoint | None:
    """The newest checkpoint of run ``run`` in ``out``, or None."""
    found = sorted((out / FOLDER).glob(f"step-????????{part}.safetensors"), reverse=True)
    for path in found:
        notes = read_notes(path)
        if notes is not None and notes.get("run") == run:
            return Checkpoint(path, int(notes["step"]))
    return None


def restore(checkpoint: Checkpoint, state: State) -> None:
    """Set ``state`` and the random generators as they were after ``checkpoint.step``."""
    with safe_open(str(checkpoint.path), framework="pt") as file:
        state.load({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118 no mapping


def clear_foreign(out: Path, *, run: str) -> None:
    """Remove the checkpoints of other runs: metrics.jsonl is about to be this one's."""
    for path in (out / FOLDER).glob("step-*.safetensors"):
        if (read_notes(path) or {}).get("run") != run:
            path.unlink(missing_ok=True)


def clear(out: Path) -> None:
    """Remove what only an unfinished run needs."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], notes: dict[str, str]) -> None:
    """One safetensors file, whole or not at all."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(flat, str(temporary), metadata=notes)


def read_notes(path: Path) -> dict[str, Any] | None:
    """The notes in a safetensors header, or None where the file is absent or damaged."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return None


def _part(named: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): v for key, v in named.items() if key.startswith(prefix)}
