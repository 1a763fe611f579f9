"""The training loop, top to bottom: plan → reference → steps → adapter.

Exact normalisation: an optimiser step is the gradient of Σ weight·loss / Σ weight over its pairs,
however they are split into micro-batches. The reference is the same model with its adapter off
(or the starting adapter), scored once, by the same kernels and in the same company of rows, so
the first loss of a new adapter is ln 2.

Written to ``out``: metrics.jsonl (a line a step), adapter/, and last of all train.json.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import torch
from torch import Tensor

from prefkit.core.errors import TrainingError, WorkspaceError
from prefkit.core.files import clear_leftovers, holding
from prefkit.core.progress import Progress
from prefkit.core.rng import derive_seed
from prefkit.policy.load import Policy, load_policy
from prefkit.policy.resolve import ModelSource
from prefkit.policy.shared_prompt import pair_logps
from prefkit.training import checkpoint
from prefkit.training.adapter import Masters, clear_unfinished, save_adapter, with_adapter
from prefkit.training.card import adapter_card, base_name
from prefkit.training.losses import Logps, Targets
from prefkit.training.plan import Batch, Plan, make_plan
from prefkit.training.result import (
    ADAPTER,
    MANIFEST,
    METRICS,
    TrainResult,
    agreement,
    finished,
    kept_metrics,
    make_result,
    metrics_line,
    write_manifest,
)
from prefkit.training.rows import micro_batches
from prefkit.training.settings import TrainSettings


def run(
    model: str | ModelSource,
    data: Any,
    settings: TrainSettings,
    *,
    out: Path,
    start_adapter: Path | None,
    heldout: Any,
    overwrite: bool,
    progress: Progress,
) -> TrainResult:
    """``prefkit.training.train`` with its heavy imports done."""
    started = time.monotonic()
    plan = make_plan(
        model, data, settings, out=out, start=start_adapter, heldout=heldout, progress=progress
    )
    earlier = finished(plan)
    if earlier is not None:
        return earlier
    if not overwrite and (out / MANIFEST).exists():
        raise WorkspaceError(
            f"{out}: holds the result of another run (other data, model or settings)",
            hint="choose another --out, or replace it with --overwrite",
        )
    busy = WorkspaceError(
        f"{out}: another process is training into this folder",
        hint="wait for it to end, or choose another --out",
    )
    with holding(out / ".lock", busy=busy):
        state = _prepared(plan, progress)
        on_gpu = state.model.device.type == "cuda"
        # Dropout draws from torch's global generators: fork them, the caller's stay as they are.
        with torch.random.fork_rng(devices=[state.model.device] if on_gpu else []):
            torch.manual_seed(derive_seed("dropout", settings.seed))
            return state.go(started)


def _prepared(plan: Plan, progress: Progress) -> _Run:
    """The run over what earlier runs left in its folder."""
    out, settings = plan.out, plan.settings
    clear_leftovers(out)
    clear_unfinished(out / ADAPTER)
    checkpoint.clear_foreign(out, run=plan.run)
    (out / MANIFEST).unlink(missing_ok=True)
    policy = load_policy(plan.source, dtype=settings.dtype, device=settings.device)
    return _Run(plan, policy, progress)


class _Run:
    """The state of one run: model, masters, optimiser."""

    def __init__(self, plan: Plan, policy: Policy, progress: Progress) -> None:
        settings = plan.settings
        self.plan = plan
        self.progress = progress
        self.pad = policy.pad_id
        self.model = with_adapter(
            policy, settings.lora, plan.start, derive_seed("lora", settings.seed)
        )
        self.masters = Masters(self.model)
        self.optimizer = torch.optim.AdamW(
            list(self.masters.values.values()),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )

    def go(self, started: float) -> TrainResult:
        """All steps that are left, then the adapter and the manifest."""
        plan = self.plan
        reference = self._reference()
        heldout_reference = self._score_reference(self._heldout(), "held-out pairs, reference")
        point = checkpoint.latest(plan.out, run=plan.run)
        if point is not None:
            checkpoint.restore(point, self.masters, self.optimizer)
        done = point.step if point else 0
        metrics = kept_metrics(plan.out / METRICS, done)
        with open(plan.out / METRICS, "a", encoding="utf-8") as log:
            for step in range(done, plan.total_steps):
                metrics.append(self._step(step, reference))
                log.write(json.dumps(metrics[-1], allow_nan=False) + "\n")
                log.flush()
                self.progress("training", step + 1, plan.total_steps)
                self._checkpoint(step + 1, log)
        heldout = self._heldout_accuracy(heldout_reference)
        card = adapter_card(
            plan.source, plan.settings, plan.pairs, start=plan.start_digest, run=plan.run
        )
        save_adapter(
            self.model, self.masters, plan.out / ADAPTER, base=base_name(plan.source), card=card
        )
        result = make_result(
            plan,
            metrics,
            heldout=heldout,
            seconds=time.monotonic() - started,
            resumed_from=point.step if point else None,
        )
        write_manifest(plan, result)
        checkpoint.clear(plan.out)
        return result

    def _checkpoint(self, done: int, log: TextIO) -> None:
        if done % self.plan.settings.checkpoint_every == 0:
            os.fsync(log.fileno())
            checkpoint.save(self.plan.out, done, self.masters, self.optimizer, run=self.plan.run)

    def _reference(self) -> list[Tensor]:
        """Reference log-probs (rows, 2) of each micro-batch; a killed run finds them on disk."""
        plan = self.plan
        if not plan.loss.needs_reference:
            return []
        sizes = [len(batch) for batch in plan.batches]
        values = checkpoint.load_reference(plan.out, run=plan.run)
        if values is None:
            values = torch.cat(self._score_reference(plan.batches, "scoring the reference"))
            checkpoint.save_reference(plan.out, values, run=plan.run)
        return list(values.split(sizes))

    def _score_reference(self, batches: Sequence[Batch], what: str) -> list[Tensor]:
        base = self.plan.settings.reference == "base" or self.plan.start is None
        with self.model.disable_adapter() if base else contextlib.nullcontext():
            return self._score(batches, what)

    def _score(self, batches: Sequence[Batch], what: str) -> list[Tensor]:
        """Log-probs (rows, 2) of each micro-batch as the model stands, without gradient."""
        total, scored = sum(len(batch) for batch in batches), 0
        values: list[Tensor] = []
        self.model.eval()
        with torch.no_grad():
            for batch in batches:
                values.append(self._logps(batch).cpu())
                scored += len(batch)
                self.progress(what, scored, total)
        return values

    def _logps(self, batch: Batch) -> Tensor:
        """(rows, 2): chosen and rejected behind one prompt, where the architecture allows it."""
        both = [(row.chosen, row.rejected) for row in batch]
        return pair_logps(self.model, both, pad_id=self.pad)

    def _step(self, step: int, reference: list[Tensor]) -> dict[str, Any]:
        """One optimiser step; returns its line of metrics."""
        plan, settings = self.plan, self.plan.settings
        started = time.monotonic()
        self.model.train()
        chosen = plan.batches_of(step)
        rows = [row for index in chosen for row in plan.batches[index]]
        total_weight = sum(row.weight for row in rows)
        self.masters.zero()
        tables: list[Tensor] = []
        for index in chosen:
            ref = reference[index] if reference else None
            tables.append(self._backward(plan.batches[index], ref, total_weight))
        table = torch.cat(tables)
        finite = torch.isfinite(table[:, 0]).tolist()
        if not all(finite):
            _stop(step, "loss", [row.id for row, ok in zip(rows, finite, strict=True) if not ok])
        rate = learning_rate(settings, step, plan.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        masters = list(self.masters.values.values())
        norm = float(torch.nn.utils.clip_grad_norm_(masters, settings.max_grad_norm))
        if not math.isfinite(norm):
            _stop(step, "gradient", [row.id for row in rows])
        self.optimizer.step()
        self.masters.publish()
        return metrics_line(
            rows,
            table,
            step=step + 1,
            beta=settings.beta,
            grad_norm=norm,
            learning_rate=rate,
            seconds=round(time.monotonic() - started, 4),
        )

    def _backward(self, batch: Batch, reference: Tensor | None, total_weight: float) -> Tensor:
        """Add a micro-batch's share of the step's gradient; (rows, 5) for the metrics.

        Columns: loss, log-ratio of chosen and rejected, log-prob of chosen and rejected.
        """
        plan = self.plan
        policy = self._logps(batch)
        device = policy.device
        reference = None if reference is None else reference.to(device)
        lengths = [[row.chosen.n_completion, row.rejected.n_completion] for row in batch]
        margins = [row.margin for row in batch if row.margin is not None]
        values = plan.loss.function(
            Logps(policy, reference, torch.tensor(lengths, device=device)),
            Targets(
                torch.tensor([row.p for row in batch], device=device),
                torch.tensor(margins, device=device) if len(margins) == len(batch) else None,
            ),
            params={**plan.loss.defaults(), "beta": plan.settings.beta},
        )
        weight = torch.tensor([row.weight for row in batch], device=device)
        (values @ weight / total_weight).backward()
        self.masters.gather()
        ratios = policy if reference is None else policy - reference
        return torch.cat([values[:, None], ratios, policy], dim=1).detach().cpu()

    def _heldout(self) -> list[Batch]:
        return micro_batches(self.plan.heldout.rows, self.plan.settings.pairs_at_once)

    def _heldout_accuracy(self, reference: list[Tensor]) -> tuple[float | None, int]:
        batches = self._heldout()
        if not batches:
            return None, 0
        policy = torch.cat(self._score(batches, "held-out pairs"))
        ratios = policy - torch.cat(reference)
        return agreement(ratios[:, 0] - ratios[:, 1], [row.p for b in batches for row in b])


def learning_rate(settings: TrainSettings, step: int, total: int) -> float:
    """The rate of step ``step`` (from 0): linear warm-up, then the schedule down to zero.

    The last step's rate is above zero: it is the one after it that would have none.
    """
    warm = math.ceil(settings.warmup * total)
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    part = (step - warm) / max(1, total - warm)
    match settings.schedule:
        case "linear":
            return settings.learning_rate * (1 - part)
        case "cosine":
            return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * part))
        case "constant":
            return settings.learning_rate


def _stop(step: int, what: str, ids: Sequence[str]) -> NoReturn:
    shown = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
    raise TrainingError(
        f"step {step + 1}: the {what} is not finite; rows: {shown}",
        hint="lower learning_rate or set dtype to float32; if it is always the same row, drop it",
    )
