"""Training on preferences: losses by name, one readable loop, checkpoints.

``train`` is the whole of it; torch is loaded only when it is called. Its steps can be used alone:
``rows`` (data → token trees), ``packs``, ``policy.logps`` (trees → log-probs), ``losses``,
``objective`` (losses → a step's loss), ``reference``, ``gradient``. See docs/training.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefkit.core.errors import ConfigError, require
from prefkit.core.progress import Progress, silent
from prefkit.settings import parse_settings
from prefkit.training.settings import LoraSettings, TrainSettings

if TYPE_CHECKING:
    from prefkit.policy.load import Policy
    from prefkit.policy.resolve import ModelSource
    from prefkit.training.objective import Constraint
    from prefkit.training.result import TrainResult

__all__ = ["LoraSettings", "TrainSettings", "train"]


def train(
    model: str | Path | ModelSource | Policy,
    data: Any,
    settings: TrainSettings | Mapping[str, Any] | None = None,
    *,
    out: Path | str = "trained",
    start_adapter: Path | str | None = None,
    heldout: Any = None,
    constraints: Sequence[Constraint] = (),
    mapping: Mapping[str, str] | None = None,
    overwrite: bool = True,
    progress: Progress = silent,
) -> TrainResult:
    """Train ``model`` on preferences; the result names what was written to ``out``.

    model: what --model takes (a Hub id, a folder, smollm2), a resolved source, or a model in
    memory (``prefkit.policy.loaded.loaded_policy(model, tokenizer)``; afterwards it is as it was,
    but that method full has changed its weights). data, heldout: a file, a Hub id, a
    datasets.Dataset, a table or a list of Example or TrainRow, or rows as dictionaries. settings:
    also as a mapping, {"beta": 0.2, "lora": {"r": 8}}. out: the folder to write, by default
    ./trained. constraints: penalties added to the loss, each ``(logps, rows) -> (rows,)``. mapping:
    field → column where the data names its columns differently, such as {"prompt": "question"}.

    Run again after a kill it goes on where it stood; a finished run of the same inputs and package
    versions is not done again; another run's result or checkpoint in ``out`` is replaced (the log
    names the step that is lost), or with ``overwrite=False`` a WorkspaceError. Raises DataError for
    faulty rows and ConfigError for settings that do not fit before any weight is loaded (what peft
    alone can say of an adapter comes once they are); until then ``out`` stays as it was. Raises
    TrainingError where the loss stops being finite, EnvironmentFault where memory runs out.
    """
    require("torch", "train")
    require("peft", "train")
    from prefkit.policy.load import Policy, release_memory
    from prefkit.policy.resolve import ModelSource
    from prefkit.training.launch import run

    if not isinstance(model, str | Path | ModelSource | Policy):
        raise ConfigError(
            f"model is a {type(model).__name__}: expected a name, a folder or a loaded policy",
            hint="for a model in memory give prefkit.policy.loaded.loaded_policy(model, tokenizer)",
        )
    result = run(
        str(model) if isinstance(model, Path) else model,
        data,
        _settings(settings),
        out=Path(out),
        start_adapter=None if start_adapter is None else Path(start_adapter),
        heldout=heldout,
        constraints=constraints,
        mapping=mapping,
        overwrite=overwrite,
        progress=progress,
    )
    release_memory()
    return result


def _settings(given: TrainSettings | Mapping[str, Any] | None) -> TrainSettings:
    if isinstance(given, TrainSettings):
        return given
    if given is None or isinstance(given, Mapping):
        return parse_settings(TrainSettings, given or {})
    raise ConfigError(
        f"settings is a {type(given).__name__}: expected TrainSettings or a mapping",
        hint='prefkit.train(model, data, {"beta": 0.2}), or TrainSettings(beta=0.2)',
    )
