"""The eyes of a run: metrics to files and trackers, alarms on stderr, progress with its speed.

The loop calls ``step`` and ``evaluation`` with what it copied from the device; nothing here looks
at the model. In OUT: metrics.jsonl (a line an optimiser step), evaluations.jsonl (a line a held-out
table), rows.jsonl (every row as each step saw it), samples.jsonl (answers sampled at evaluations).
Each line carries its step, so a run that goes on after a kill cuts all four to its checkpoint.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np

from prefkit.core.errors import EnvironmentFault, from_os_error
from prefkit.core.files import write_text
from prefkit.core.progress import Progress, silent
from prefkit.training.alarms import Alarm, Alarms, AlarmSettings, sounded_in
from prefkit.training.facts import EvaluationFacts, RowFacts, SampledAnswers, StepFacts
from prefkit.training.metrics import evaluation_line, step_line
from prefkit.training.trackers import TrackedRun, Tracker, open_trackers

METRICS, EVALUATIONS = "metrics.jsonl", "evaluations.jsonl"
ROWS, SAMPLES = "rows.jsonl", "samples.jsonl"
FILES = (METRICS, EVALUATIONS, ROWS, SAMPLES)
# Says that what is logged in a folder is a run's own, to be replaced by the next (out_folder.py).
MARK = ".prefkit-train"
# What a tracker draws against the step need not be drawn itself.
UNTRACKED = frozenset({"step", "bins", "alarms"})
SPEED_STEPS = 10
_log = logging.getLogger("prefkit.training")


class Monitor:
    """Watches one run; use it in a ``with`` block, or ``close`` it.

    out: the run's folder. total: optimiser steps of the whole run. done: steps of the checkpoint
    from which it goes on, 0 for a new run; what was logged past them is cut. run, config: for
    the trackers. first_loss: what the loss has to be at step 1, None where that is not known,
    and tolerance, by how much it may differ. Raises ConfigError or MissingExtra for trackers,
    EnvironmentFault where a file cannot be written.
    """

    def __init__(
        self,
        out: Path,
        *,
        total: int,
        run: str,
        done: int = 0,
        trackers: Sequence[str] = ("tensorboard",),
        config: Mapping[str, Any] | None = None,
        alarms: AlarmSettings = AlarmSettings(),
        first_loss: float | None = None,
        tolerance: float = 1e-5,
        progress: Progress = silent,
    ) -> None:
        self._out, self._total, self._progress = out, total, progress
        write_text(out / MARK, "")
        kept = {name: kept_lines(out / name, done) for name in FILES}
        self.lines: list[dict[str, Any]] = kept[METRICS]
        self.evaluations: list[dict[str, Any]] = kept[EVALUATIONS]
        self._alarms = Alarms(alarms, total=total, first_loss=first_loss, tolerance=tolerance)
        for line in self.lines:
            self._alarms.see(line)
        # What was told stays as it was told, even where the settings of alarms have changed.
        self._alarms.sounded = sounded_in(self.lines)
        self._trackers: list[Tracker] = []
        self._files: dict[str, TextIO] = {}
        with self._told():
            tracked = TrackedRun(out, run, out.resolve().name, config or {}, self._tracked())
            self._trackers = open_trackers(trackers, tracked)
            for file in FILES:
                self._files[file] = open(out / file, "a", encoding="utf-8")  # noqa: SIM115

    @property
    def alarms(self) -> list[Alarm]:
        """All alarms of the run so far, those before a kill included."""
        return list(self._alarms.sounded)

    def step(self, facts: StepFacts) -> dict[str, Any]:
        """Record one optimiser step; the line that was written."""
        line = step_line(facts)
        found = self._alarms.see(line)
        if found:
            line["alarms"] = [alarm.to_json() for alarm in found]
        self.lines.append(line)
        self._write(ROWS, row_line(facts.step, facts.rows))
        self._write(METRICS, line)
        self._track("train", line)
        self._progress("training", facts.step, self._total, self._speed())
        for alarm in found:
            _log.warning("alarm at %s", alarm)
        return line

    def evaluation(self, facts: EvaluationFacts) -> dict[str, Any]:
        """Record a held-out table and its sampled answers; the line that was written."""
        line = evaluation_line(facts)
        self.evaluations.append(line)
        for answer in _sample_lines(facts.step, facts.samples):
            self._write(SAMPLES, answer)
        self._write(EVALUATIONS, line)
        self._track("eval", line)
        return line

    def sync(self) -> None:
        """Make all lines durable: to be called before a checkpoint that vouches for them."""
        with self._told():
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())

    def close(self) -> None:
        """Close files and trackers; a second call does nothing."""
        files, self._files = self._files, {}
        trackers, self._trackers = self._trackers, []
        # All are closed, whichever of them fails.
        with self._told(), ExitStack() as stack:
            for held in (*trackers, *files.values()):
                stack.callback(held.close)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except EnvironmentFault:
            # A full disk shows again on closing; the first fault says it.
            if error is None:
                raise

    @contextmanager
    def _told(self) -> Generator[None]:
        """A full disk and its like as a fault that names the folder."""
        try:
            yield
        except OSError as error:
            raise from_os_error(error, self._out) or error from error

    def _write(self, name: str, line: Mapping[str, Any]) -> None:
        with self._told():
            file = self._files[name]
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
            file.flush()

    def _track(self, kind: str, line: Mapping[str, Any]) -> None:
        values = _numbers(kind, line)
        with self._told():
            for tracker in self._trackers:
                tracker.log(line["step"], values)

    def _tracked(self) -> list[tuple[int, dict[str, float]]]:
        """What the trackers had of the kept lines, in the order of steps."""
        found = [(line["step"], _numbers("train", line)) for line in self.lines]
        found += [(line["step"], _numbers("eval", line)) for line in self.evaluations]
        return sorted(found, key=lambda entry: entry[0])

    def _speed(self) -> str:
        recent = self.lines[-SPEED_STEPS:]
        seconds = sum(line["seconds"] for line in recent)
        tokens = sum(line["n_tokens_equivalent"] for line in recent)
        return f"{tokens / seconds:,.0f} tokens/s" if seconds > 0 else ""


def kept_lines(path: Path, done: int) -> list[dict[str, Any]]:
    """The lines of steps up to ``done``; the file is cut to them, and made where it is not there.

    A killed run may have logged steps past its last checkpoint, the last one in part: they are
    done again.
    """
    kept: list[str] = []
    found: list[dict[str, Any]] = []
    text = path.read_text(encoding="utf-8", errors="replace") if done and path.is_file() else ""
    for raw in text.split("\n"):
        try:
            line = json.loads(raw)
        except json.JSONDecodeError:
            break
        if line["step"] > done:
            break
        kept.append(raw + "\n")
        found.append(line)
    write_text(path, "".join(kept))
    return found


def row_line(step: int, rows: RowFacts) -> dict[str, Any]:
    """The line of rows.jsonl: columns over the rows of a step, six digits.

    margin: reward of the first answer minus the mean of the others; of an answer alone its reward.
    """
    rewards, there = rows.rewards(), rows.n_tokens > 0
    margin = rewards[:, 0]
    if rows.target in ("pair", "ranking"):
        others = np.where(there[:, 1:], rewards[:, 1:], 0.0).sum(1)
        margin = margin - others / there[:, 1:].sum(1).clip(min=1)
    return {
        "step": step,
        "target": rows.target,
        "id": list(rows.ids),
        "p": _rounded(rows.p),
        "weight": _rounded(rows.weight),
        "margin": _rounded(margin),
        "loss": _rounded(rows.values),
    }


def _rounded(values: Any) -> list[float | None]:
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in values.tolist()]


def _numbers(kind: str, line: Mapping[str, Any]) -> dict[str, float]:
    return {
        f"{kind}/{key}": value
        for key, value in line.items()
        if key not in UNTRACKED and isinstance(value, int | float)
    }


def _sample_lines(step: int, samples: SampledAnswers | None) -> list[dict[str, Any]]:
    if samples is None:
        return []
    gaps: list[float | None] = [None] * len(samples.texts)
    if samples.policy is not None and samples.reference is not None and samples.answer is not None:
        gap = np.asarray(samples.policy, np.float64) - samples.reference
        gaps = _rounded(np.bincount(samples.answer, weights=gap, minlength=len(gaps)))
    return [
        {"step": step, "prompt": prompt, "text": text, "logratio": gap}
        for prompt, text, gap in zip(samples.prompts, samples.texts, gaps, strict=True)
    ]
