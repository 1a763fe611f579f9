"""Facts of a run as the loop would hand them over, made from a seed."""

from __future__ import annotations

import importlib
import importlib.util
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from components import require_component

from prefkit.core.records import Message, Prompt, TrainRow
from prefkit.training.facts import RowFacts, StepFacts
from prefkit.training.monitor import Monitor


def pair_facts(
    margin: Any,
    p: Any,
    *,
    ids: list[str] | None = None,
    chosen: Any = 0.0,
    beta: float = 0.1,
    lengths: Any = None,
    weight: Any = None,
) -> RowFacts:
    """Pairs whose β-scaled margin is ``margin`` and whose chosen answer's log-ratio is ``chosen``.

    The loss of a row is the sigmoid loss of its margin.
    """
    margin, p = np.asarray(margin, np.float64), np.asarray(p, np.float64)
    n = len(margin)
    ratio = np.stack([chosen + np.zeros(n), chosen - margin / beta], 1)
    reference = np.tile([-40.0, -42.0], (n, 1))
    return RowFacts(
        ids=ids or [f"row{i}" for i in range(n)],
        target="pair",
        p=p,
        weight=np.ones(n) if weight is None else np.asarray(weight, np.float64),
        values=p * np.logaddexp(0, -margin) + (1 - p) * np.logaddexp(0, margin),
        policy=reference + ratio,
        reference=reference,
        n_tokens=np.full((n, 2), 20) if lengths is None else np.asarray(lengths),
        beta=beta,
    )


def step_facts(step: int, total: int, rows: RowFacts, **given: Any) -> StepFacts:
    """A step over ``rows`` that took half a second."""
    loss = float(rows.values @ rows.weight / rows.weight.sum())
    facts: dict[str, Any] = {
        "loss": loss,
        "grad_norm": 1.5,
        "learning_rate": 5e-5,
        "seconds": 0.5,
        "n_tokens_fed": 900,
        "n_tokens_equivalent": 1200,
    }
    return StepFacts(step=step, total=total, rows=rows, **{**facts, **given})


def course(step: int, total: int, seed: int = 0) -> StepFacts:
    """Step ``step`` (from 1) of a healthy run over 64 pairs: at ln 2 first, then the margin grows.

    A function of its arguments, so that two runs see the same.
    """
    rng = np.random.default_rng([seed, step])
    picked = rng.choice(64, 8, replace=False)
    growth = (step - 1) / total
    margin = growth * (1.5 + rng.normal(size=8)) if step > 1 else np.zeros(8)
    rows = pair_facts(
        margin,
        rng.choice([0.75, 0.9, 1.0], 8),
        ids=[f"row{i}" for i in picked],
        chosen=growth,
        lengths=rng.integers(5, 60, (8, 2)),
    )
    return step_facts(step, total, rows)


def train_rows(n: int = 64) -> dict[str, TrainRow]:
    """The rows of ``course`` with their text, by id."""
    found: dict[str, TrainRow] = {}
    for i in range(n):
        prompt = Prompt.make([Message.of("system", "Be brief."), Message.of("user", f"q {i} é\n")])
        answers = tuple((Message.of("assistant", f"{word} {i}"),) for word in ("yes", "no"))
        found[f"row{i}"] = TrainRow(f"row{i}", prompt, answers, "pair", p=0.9, weight=2.0)
    return found


def monitored(out: Path, steps: range, total: int, **given: Any) -> Monitor:
    """A monitor that has seen ``steps`` of the course; it stays open."""
    settings = {"run": "5" * 32, "trackers": (), "first_loss": math.log(2), **given}
    monitor = Monitor(out, total=total, done=steps.start - 1, **settings)
    for step in steps:
        monitor.step(course(step, total))
    return monitor


def needs(package: str) -> ModuleType:
    """The package, or a skipped test."""
    if importlib.util.find_spec(package) is None:
        require_component(package, "pip install 'prefkit[dev]'")
    return importlib.import_module(package)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """tag → [(step, value)] as TensorBoard reads a folder; its reader checks every checksum."""
    needs("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), purge_orphaned_data=False).Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }
