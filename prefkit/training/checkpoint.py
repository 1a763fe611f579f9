"""Where a killed run goes on: one file a checkpoint and rank, whole or absent.

Holds the fp32 masters, the optimiser's state, the EMA reference and the best state if there are
any, the random state and the step. The order of data and the learning rate are functions of the
seed and the step, so they need no place here.

Where parameters are sharded each rank's file holds its part. Else rank 0's holds everything but
the random state of the others, which have a small file each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from prefkit.core.errors import EnvironmentFault, TrainingError
from prefkit.core.files import replacing
from prefkit.training.average import MovingAverage
from prefkit.training.masters import Masters
from prefkit.training.ranks import Ranks

FOLDER = "checkpoints"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A readable checkpoint of this very run, and the step after which it was written.

    own: the file with this rank's random state; None where there is none: the run had fewer ranks.
    """

    path: Path
    step: int
    own: Path | None = None


@dataclass(slots=True)
class State:
    """What changes while a run goes on. best: the masters of the best evaluation so far."""

    masters: Masters
    optimizer: torch.optim.Optimizer
    average: MovingAverage | None = None
    best: Mapping[str, Tensor] | None = None
    scale: float = 1.0

    @property
    def device(self) -> torch.device:
        """Where the run trains, and dropout draws."""
        return next(iter(self.masters.values.values())).device

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
        return named

    def load(self, named: Mapping[str, Tensor]) -> None:
        """Become what ``tensors`` said."""
        self.masters.load(_part(named, "master/"))
        for key, value in _part(named, "optimizer/").items():
            kind, _, name = key.partition("/")
            master = self.masters.values[name]
            # All of it, AdamW's count of steps too: the fused kernels read it on the device.
            self.optimizer.state[master][kind] = value.to(master.device)
        if self.average is not None:
            self.average.load(_part(named, "average/"))
        self.best = _part(named, "best/") or None
        self.scale = float(named["scale"])


def save(out: Path, step: int, state: State, *, notes: Mapping[str, str], ranks: Ranks) -> None:
    """Write the checkpoint of ``step``; once every rank has its file, older ones are removed.

    notes: what names the run (``Identity.notes``).
    """
    part = _part_name(ranks)
    path = out / FOLDER / f"step-{step:08d}{part}.safetensors"
    tensors = state.tensors() if ranks.leads or ranks.sharded else {}
    write_tensors(path, tensors | _random_state(state.device), {**notes, "step": str(step)})
    ranks.wait()
    for older in _of_run(out, notes["run"], part):
        if older.name < path.name:
            older.unlink(missing_ok=True)


def latest(out: Path, *, run: str, ranks: Ranks) -> Checkpoint | None:
    """The newest checkpoint of run ``run`` in ``out`` that is there for all ranks, or None.

    Raises TrainingError where those of the run were written by ranks that split it otherwise.
    """
    mine = _steps(out, run, _part_name(ranks))
    shared = _steps(out, run, "")
    told = ranks.gather((set(mine), set(shared), bool(_of_run(out, run))))
    complete = set.intersection(*(own for own, _, _ in told))
    if not ranks.sharded:
        complete = complete or told[0][1]
    if not complete:
        if told[0][2]:
            raise TrainingError(
                f"{out / FOLDER}: the run was started with another number or kind of processes",
                hint="launch it as before to go on, or remove that folder to begin anew",
            )
        return None
    step = max(complete)
    if ranks.sharded:
        return Checkpoint(mine[step], step, mine[step])
    if step not in shared:
        raise EnvironmentFault(
            f"{out}: rank {ranks.rank} does not see the checkpoint that rank 0 wrote",
            hint="put --out on a disk that all machines share",
        )
    return Checkpoint(shared[step], step, mine.get(step))


def _part_name(ranks: Ranks) -> str:
    if ranks.sharded:
        return f".{ranks.rank + 1}-of-{ranks.world}"
    return "" if ranks.leads else f".rank-{ranks.rank}"


def _steps(out: Path, run: str, part: str) -> dict[int, Path]:
    """The checkpoints of one part by step."""
    paths = _of_run(out, run, part)
    return {step_of(path): path for path in paths}


def step_of(path: Path) -> int:
    """The step after which a checkpoint was written."""
    return int(path.name.removeprefix("step-")[:8])


def _of_run(out: Path, run: str, part: str = "*") -> list[Path]:
    return [path for path, notes in ours(out, part).items() if notes["run"] == run]


def ours(out: Path, part: str = "*") -> dict[Path, dict[str, Any]]:
    """The readable checkpoints in ``out`` with their notes; those of another tool name no run."""
    found = (out / FOLDER).glob(f"step-????????{part}.safetensors")
    noted = {path: read_notes(path) or {} for path in found}
    return {path: notes for path, notes in noted.items() if "run" in notes}


def foreign(out: Path, *, run: str) -> dict[Path, dict[str, Any]]:
    """The checkpoints of other runs in ``out`` with their notes."""
    return {path: notes for path, notes in ours(out).items() if notes["run"] != run}


def restore(checkpoint: Checkpoint, state: State) -> None:
    """Set ``state`` and the random generators as they were after ``checkpoint.step``."""
    named = _read(checkpoint.path)
    state.load(named)
    if checkpoint.own is None:
        return
    if checkpoint.own != checkpoint.path:
        named = _read(checkpoint.own)
    torch.set_rng_state(named["rng/cpu"])
    if "rng/cuda" in named and state.device.type == "cuda":
        torch.cuda.set_rng_state(named["rng/cuda"], state.device)


def _read(path: Path) -> dict[str, Tensor]:
    with safe_open(str(path), framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 no mapping


def _random_state(device: torch.device) -> dict[str, Tensor]:
    named = {"rng/cpu": torch.get_rng_state()}
    if device.type == "cuda":
        named["rng/cuda"] = torch.cuda.get_rng_state(device)
    return named


def clear(out: Path, *, run: str) -> None:
    """Remove what only an unfinished run needs; what another tool keeps in the folder stays."""
    for path in _of_run(out, run):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (out / FOLDER).rmdir()


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
