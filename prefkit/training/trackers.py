"""Where metrics go besides metrics.jsonl: TensorBoard, wandb, trackio, mlflow, each by name.

Nothing leaves the machine unless its user said so: wandb runs offline where WANDB_MODE is not set,
mlflow writes into the run's folder where MLFLOW_TRACKING_URI is not set, and their reports home are
off. metrics.jsonl is the truth; a tracker that fails is named once and let go.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from prefkit.core.errors import ConfigError, PrefkitError, require
from prefkit.core.registry import did_you_mean
from prefkit.training.event_file import EVENTS, EventFile

EXTRA = "trackers"
PROJECT = "prefkit"
MLFLOW_VALUE = 500  # characters that every mlflow store takes for a parameter
_log = logging.getLogger("prefkit.training")


class Tracker(Protocol):
    """Takes numbers by name for a step; called from one process, with steps that never fall."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record ``values``; names are like "train/loss", values finite."""
        ...

    def close(self) -> None:
        """Finish; nothing is logged after it."""
        ...


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """What a tracker is told of a run.

    run: its digest, the same after a kill. name: for people. config: its settings, for the
    tracker's table. kept: what was logged before a kill, (step, values) up to the checkpoint from
    which the run goes on; empty for a new run.
    """

    out: Path
    run: str
    name: str
    config: Mapping[str, Any]
    kept: Sequence[tuple[int, Mapping[str, float]]] = ()


def open_trackers(names: Sequence[str], run: TrackedRun) -> list[Tracker]:
    """The trackers of these names, each once; ConfigError for an unknown name and for one that
    takes no run, MissingExtra where its package is not installed. None stays open beside one that
    is refused."""
    check_trackers(names)
    with contextlib.ExitStack() as stack:
        opened: list[Tracker] = []
        for name in dict.fromkeys(names):
            opener, package = TRACKERS[name]
            opened.append(opener(run) if package is None else ForeignTracker(name, opener, run))
            stack.callback(opened[-1].close)
        stack.pop_all()
    return opened


def check_trackers(names: Sequence[str]) -> None:
    """Raise what ``open_trackers`` would: for a run to be refused before its first step."""
    for name in names:
        if name not in TRACKERS:
            raise ConfigError(
                f"trackers: unknown tracker {name!r}{did_you_mean(name, list(TRACKERS))}",
                hint=f"known: {', '.join(TRACKERS)}",
            )
        package = TRACKERS[name][1]
        if package is not None:
            _import(package)


class TensorBoardTracker:
    """Writes OUT/tensorboard: ``tensorboard --logdir OUT`` shows it. Needs no package.

    After a kill its file is written anew from what was kept, so no step is there twice; what other
    tools log in the folder stays.
    """

    def __init__(self, run: TrackedRun) -> None:
        folder = run.out / "tensorboard"
        for earlier in folder.glob(EVENTS.format("*")):
            earlier.unlink()
        self._file = EventFile(folder)
        for step, values in run.kept:
            self.log(step, values)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append one event."""
        self._file.scalars(step, values)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ForeignTracker:
    """A tracker of another package: named once where it fails, and let go.

    Packages raise whatever their parts do, without a common base, and none of it is worth a run of
    days. So these two places catch everything; nothing of ours runs inside them.
    """

    def __init__(self, name: str, opener: Callable[[TrackedRun], Tracker], run: TrackedRun) -> None:
        self._name = name
        self._tracker: Tracker | None = None
        try:
            self._tracker = opener(run)
        except PrefkitError:
            raise
        except Exception as error:
            raise ConfigError(
                f"{name} takes no run: {_said(error)}",
                hint=f"{MENDS[name]}, or leave {name} out of trackers",
            ) from error

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log; after the first failure nothing is sent."""
        self._call(lambda tracker: tracker.log(step, values))

    def close(self) -> None:
        """Close it, unless it was let go."""
        self._call(lambda tracker: tracker.close())

    def _call(self, call: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            call(self._tracker)
        except Exception as error:  # noqa: BLE001
            self._tracker = None
            _log.warning(
                "%s takes no more of this run (%s); metrics.jsonl goes on", self._name, _said(error)
            )


def _said(error: Exception) -> str:
    """What an exception says, its kind where it says nothing."""
    return str(error) or type(error).__name__


class WandbTracker:
    """A Weights & Biases run whose id is the run's digest; offline unless WANDB_MODE says else.

    ``wandb sync OUT/wandb/offline-run-*`` sends it. A run that goes on after a kill is resumed by
    its id.
    """

    def __init__(self, run: TrackedRun) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        wandb = _import("wandb")
        with _stdout_kept():
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=run.name,
                id=run.run,
                dir=str(run.out),
                config=dict(run.config),
                mode=os.environ.get("WANDB_MODE", "offline"),
                resume="allow",
                # A run of the caller's own stays as it is.
                reinit="create_new",
                settings=wandb.Settings(console="off", silent=True, save_code=False),
            )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log; wandb counts steps itself and drops those it has had."""
        with _stdout_kept():
            self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Wait until all is written (or sent)."""
        with _stdout_kept():
            self._run.finish()


class TrackioTracker:
    """A trackio run in trackio's own folder (TRACKIO_DIR); ``trackio show`` shows it."""

    def __init__(self, run: TrackedRun) -> None:
        self._trackio = _import("trackio")
        with _stdout_kept():
            self._run = self._trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", PROJECT),
                name=f"{run.name}-{run.run[:8]}",
                config=dict(run.config),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Queue; trackio writes from a thread of its own."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Wait until all is written."""
        # trackio's own finish: the run's leaves a handler that prints to stdout at exit.
        with _stdout_kept():
            self._trackio.finish()


class MlflowTracker:
    """An mlflow run in MLFLOW_TRACKING_URI, else in the SQLite file OUT/mlflow.db.

    ``mlflow ui --backend-store-uri sqlite:///OUT/mlflow.db`` shows it. A run that goes on after a
    kill is found again by its tag prefkit.run.
    """

    def __init__(self, run: TrackedRun) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self._mlflow = _import("mlflow")
        folder = run.out.resolve()
        remote = os.environ.get("MLFLOW_TRACKING_URI")
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        try:
            self._client = self._mlflow.MlflowClient(remote or f"sqlite:///{folder / 'mlflow.db'}")
            found = self._client.get_experiment_by_name(name)
            experiment = found.experiment_id if found else None
            if experiment is None:
                # mlflow's own default is a folder wherever the process happens to stand.
                place = None if remote else (folder / "mlruns").as_uri()
                experiment = self._client.create_experiment(name, artifact_location=place)
            self._id = self._run_id(experiment, run)
        except self._mlflow.exceptions.MlflowException as error:
            raise ConfigError(
                f"mlflow: {remote or folder / 'mlflow.db'} takes no run: {error}",
                hint="mend MLFLOW_TRACKING_URI, or leave mlflow out of trackers",
            ) from None

    def _run_id(self, experiment: str, run: TrackedRun) -> str:
        """The run that a kill left, else a new one with its settings."""
        earlier = self._client.search_runs([experiment], f"tags.`prefkit.run` = '{run.run}'")
        if earlier and run.kept:
            return earlier[0].info.run_id
        made = self._client.create_run(experiment, tags={"prefkit.run": run.run}, run_name=run.name)
        param = self._mlflow.entities.Param
        params = [param(key, str(value)[:MLFLOW_VALUE]) for key, value in run.config.items()]
        self._client.log_batch(made.info.run_id, params=params)
        return made.info.run_id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send."""
        now = int(time.time() * 1000)
        metric = self._mlflow.entities.Metric
        metrics = [metric(key, value, now, step) for key, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._id)


# Name → (what opens it, the package it needs).
TRACKERS: Mapping[str, tuple[Callable[[TrackedRun], Tracker], str | None]] = {
    "tensorboard": (TensorBoardTracker, None),
    "wandb": (WandbTracker, "wandb"),
    "trackio": (TrackioTracker, "trackio"),
    "mlflow": (MlflowTracker, "mlflow"),
}
# What a user can mend where one of them takes no run.
MENDS: Mapping[str, str] = {
    "wandb": "run `wandb login` or unset WANDB_MODE (runs are then kept offline)",
    "trackio": "mend TRACKIO_DIR",
    "mlflow": "mend MLFLOW_TRACKING_URI",
}


def _import(package: str) -> Any:
    """The package, or MissingExtra; some print at import."""
    with _stdout_kept():
        return require(package, EXTRA)


def _stdout_kept() -> contextlib.AbstractContextManager[Any]:
    """stdout is the command's result: what a package prints goes to stderr."""
    return contextlib.redirect_stdout(sys.stderr)
