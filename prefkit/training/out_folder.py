"""What a run may replace in its folder: what a run of ours made there, and nothing else.

OUT may be any folder, with other things in it. The names below are written whole, so something of
another's under one of them stops the run before anything is loaded. Checkpoints and TensorBoard's
events are removed file by file, ours only (checkpoint.py, trackers.py).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefkit.core.errors import DataError, WorkspaceError
from prefkit.core.files import clear_leftovers, read_json
from prefkit.policy.adapter_base import FACTS
from prefkit.policy.resolve import DEFAULT_MODEL
from prefkit.training import checkpoint
from prefkit.training.export import ADAPTER, MODEL
from prefkit.training.monitor import FILES, MARK
from prefkit.training.plan import Plan
from prefkit.training.result import MANIFEST
from prefkit.training.run_report import REPORT
from prefkit.training.settings import TrainSettings
from prefkit.training.worst import WORST

# What a model or a reference may be called, whatever folders of that name there are.
_NO_PATHS = (DEFAULT_MODEL, "base", "start", "ema")
_log = logging.getLogger("prefkit.training")


def check_out(
    out: Path, settings: TrainSettings, models: Iterable[object], data: Iterable[object]
) -> None:
    """Refuse a folder where this run would remove what no run of ours made, or what it reads, and
    the folder of a model or adapter, which would no longer be what it was.

    models, data: what the run is given to read; those that are paths count. Raises WorkspaceError.
    """
    models = [given for given in models if given not in _NO_PATHS]
    if any(_path(given) == out.resolve() for given in models):
        raise WorkspaceError(
            f"{out}: the folder of a model that the run reads",
            hint="choose another --out, for example one beside it",
        )
    result = MODEL if settings.method == "full" else ADAPTER
    names = (*FILES, WORST, REPORT, MANIFEST, result)
    read = [path for given in (*models, *data) if (path := _path(given)) is not None]
    for target in [(out / name).resolve() for name in names]:
        if any(target == path or target in path.parents for path in read):
            raise WorkspaceError(
                f"{target}: the run reads it, and would replace it with what it writes",
                hint="choose another --out",
            )
    if not _is_taken(out):
        foreign = [name for name in names if os.path.lexists(out / name)]
    else:
        foreign = [name for name in (MANIFEST, result) if not _is_free_or_ours(out / name)]
    if foreign:
        raise WorkspaceError(
            f"{out}: {', '.join(foreign)} would be replaced, and no run of prefkit made "
            f"{'it' if len(foreign) == 1 else 'them'}",
            hint="choose another --out, or move away what is in the way",
        )


def check_earlier(plan: Plan) -> None:
    """Refuse a folder with the result of another run, or a checkpoint that one would go on from.

    Raises WorkspaceError.
    """
    stored = _json(plan.out / MANIFEST)
    if isinstance(stored, dict):
        why = plan.identity.unlike(stored.get("inputs"), stored.get("versions"))
        raise WorkspaceError(
            f"{plan.out}: holds the result of another run ({why})",
            hint="choose another --out, or replace it with --overwrite",
        )
    lost = _foreign_checkpoint(plan)
    if lost is not None:
        raise WorkspaceError(
            f"{plan.out}: holds {lost}",
            hint="choose another --out, start that run as before to go on with it, or give it up "
            "with --overwrite",
        )


def clear_unfinished(plan: Plan) -> None:
    """Remove what killed runs left half-written, the manifest, and the checkpoints of other runs:
    metrics.jsonl is about to be this one's. What is lost by that is told on the log."""
    out = plan.out
    clear_leftovers(out, names=(*FILES, WORST, REPORT, MANIFEST, ADAPTER, MODEL))
    clear_leftovers(out / checkpoint.FOLDER)
    lost = _foreign_checkpoint(plan)
    if lost is not None:
        _log.warning("%s: removed %s", out, lost)
    for path in checkpoint.foreign(out, run=plan.run):
        path.unlink(missing_ok=True)
    (out / MANIFEST).unlink(missing_ok=True)


def _foreign_checkpoint(plan: Plan) -> str | None:
    """In words, the last checkpoint of another run in the folder; None where there is none."""
    found = checkpoint.foreign(plan.out, run=plan.run)
    if not found:
        return None
    last = max(found, key=checkpoint.step_of)
    notes = found[last]
    why = plan.identity.unlike(notes.get("inputs"), json.loads(notes.get("versions", "null")))
    return f"the checkpoint of another run at step {checkpoint.step_of(last)} ({why})"


def _path(given: object) -> Path | None:
    """``given`` as a path without links, None where it names nothing on this disk."""
    if not isinstance(given, str | Path):
        return None
    path = os.path.expanduser(given)
    return Path(path).resolve() if os.path.exists(path) else None


def _is_taken(out: Path) -> bool:
    """Whether a run of ours has written here: then the names of what is logged are its own.

    The mark is there from the first file on; it may be lost where a folder was copied.
    """
    marked = (out / MARK).is_file()
    return marked or _is_manifest(out / MANIFEST) or bool(checkpoint.ours(out))


def _is_free_or_ours(path: Path) -> bool:
    if not os.path.lexists(path):
        return True
    if path.name == MANIFEST:
        return _is_manifest(path)
    facts = _json(path / FACTS)
    return isinstance(facts, dict) and facts.get("form") == path.name


def _is_manifest(path: Path) -> bool:
    """Whether a train.json is a run's: people call their data so too."""
    stored = _json(path)
    return isinstance(stored, dict) and {"run", "result"} <= stored.keys()


def _json(path: Path) -> Any:
    try:
        return read_json(path) if path.is_file() else None
    except DataError:
        return None
