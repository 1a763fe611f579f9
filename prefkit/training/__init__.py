"""Training a LoRA adapter on preference pairs: losses by name, one readable loop, checkpoints.

``train`` is the whole of it; torch is loaded only when it is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefkit.core.errors import require
from prefkit.core.progress import Progress, silent
from prefkit.training.settings import LoraSettings, TrainSettings

if TYPE_CHECKING:
    from prefkit.policy.resolve import ModelSource
    from prefkit.training.loop import TrainResult

__all__ = ["LoraSettings", "TrainSettings", "train"]


def train(
    model: str | ModelSource,
    data: Any,
    settings: TrainSettings | None = None,
    *,
    out: Path | str,
    start_adapter: Path | str | None = None,
    heldout: Any = None,
    overwrite: bool = True,
    progress: Progress = silent,
) -> TrainResult:
    """Train an adapter for ``model`` on preference pairs; the result names ``out``/adapter.

    model: what --model takes, or a resolved source. data, heldout: a table of examples, a list
    of Example, or a path or Hub id. Run again after a kill it goes on where it stood; a finished
    run of the same inputs is not done again; another run's result in ``out`` is replaced, or with
    ``overwrite=False`` a WorkspaceError. Raises DataError for faulty rows before any weight
    is loaded, TrainingError where the loss stops being finite.
    """
    require("torch", "train")
    require("peft", "train")
    from prefkit.policy.load import release_memory
    from prefkit.training.loop import run

    result = run(
        model,
        data,
        settings or TrainSettings(),
        out=Path(out),
        start_adapter=None if start_adapter is None else Path(start_adapter),
        heldout=heldout,
        overwrite=overwrite,
        progress=progress,
    )
    release_memory()
    return result
