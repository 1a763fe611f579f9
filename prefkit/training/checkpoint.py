"""Where a killed run goes on: one file a checkpoint, whole or absent.

Holds the fp32 masters, the optimiser's moments, the random state and the step. The order of data
and the learning rate are functions of the seed and the step, so they need no place here.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from prefkit.core.files import replacing
from prefkit.training.adapter import Masters

FOLDER = "checkpoints"
REFERENCE = "reference.safetensors"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A readable checkpoint of this very run, and the step after which it was written."""

    path: Path
    step: int


def save(out: Path, step: int, masters: Masters, optimizer: torch.optim.AdamW, *, run: str) -> None:
    """Write the checkpoint of ``step`` and remove older ones."""
    tensors = {f"master/{name}": value for name, value in masters.values.items()}
    for name, master in masters.values.items():
        for key in ("exp_avg", "exp_avg_sq"):
            tensors[f"{key}/{name}"] = optimizer.state[master][key]
    tensors["rng/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng/cuda"] = torch.cuda.get_rng_state()
    path = out / FOLDER / f"step-{step:08d}.safetensors"
    write_tensors(path, tensors, {"run": run, "step": str(step)})
    for older in path.parent.glob("step-*.safetensors"):
        if older.name < path.name:
            older.unlink(missing_ok=True)


def latest(out: Path, *, run: str) -> Checkpoint | None:
    """The newest checkpoint of run ``run`` in ``out``, or None."""
    for path in sorted((out / FOLDER).glob("step-*.safetensors"), reverse=True):
        notes = read_notes(path)
        if notes is not None and notes.get("run") == run:
            return Checkpoint(path, int(notes["step"]))
    return None


def clear_foreign(out: Path, *, run: str) -> None:
    """Remove the checkpoints of other runs: metrics.jsonl is about to be this one's."""
    for path in (out / FOLDER).glob("step-*.safetensors"):
        if (read_notes(path) or {}).get("run") != run:
            path.unlink(missing_ok=True)


def restore(checkpoint: Checkpoint, masters: Masters, optimizer: torch.optim.AdamW) -> None:
    """Set masters, moments and random state as they were after ``checkpoint.step``."""
    with safe_open(str(checkpoint.path), framework="pt") as file:
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 no mapping
    masters.load({name: stored[f"master/{name}"] for name in masters.values})
    for name, master in masters.values.items():
        optimizer.state[master] = {
            "step": torch.tensor(float(checkpoint.step)),
            "exp_avg": stored[f"exp_avg/{name}"].to(master.device),
            "exp_avg_sq": stored[f"exp_avg_sq/{name}"].to(master.device),
        }
    torch.set_rng_state(stored["rng/cpu"])
    if "rng/cuda" in stored and torch.cuda.is_available():
        torch.cuda.set_rng_state(stored["rng/cuda"])


def clear(out: Path) -> None:
    """Remove what only an unfinished run needs."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)
    (out / REFERENCE).unlink(missing_ok=True)


def save_reference(out: Path, values: Tensor, *, run: str) -> None:
    """Keep the reference log-probs (rows, 2) of this run, so that going on need not redo them."""
    write_tensors(out / REFERENCE, {"reference": values}, {"run": run})


def load_reference(out: Path, *, run: str) -> Tensor | None:
    """The kept reference log-probs, or None if they are of another run or absent."""
    path = out / REFERENCE
    notes = read_notes(path)
    if notes is None or notes.get("run") != run:
        return None
    with safe_open(str(path), framework="pt") as file:
        return file.get_tensor("reference")


def write_tensors(path: Path, tensors: dict[str, Tensor], notes: dict[str, str]) -> None:
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
