"""Steps that were taken and are still to be logged: their numbers wait on the device."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from torch import Tensor

from prefkit.core.errors import TrainingError
from prefkit.training.facts import StepFacts
from prefkit.training.plan import Plan
from prefkit.training.ranks import Ranks
from prefkit.training.rows import Row
from prefkit.training.tables import HostTable, Table, loss_parts, row_facts, to_host


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A step, counted from 0, whose numbers are still on the device. norm: ()."""

    step: int
    rows: list[Row]
    tables: list[Table]
    norm: Tensor
    rate: float


def step_facts(
    waiting: Sequence[Pending], plan: Plan, ranks: Ranks, *, since: float
) -> list[StepFacts]:
    """The facts of all waiting steps over all ranks, in one copy from the device.

    since: when the first of them began, in seconds of ``time.monotonic``. Steps are only begun
    without waiting, so how long they took is known once their numbers are here.
    """
    tables, norms = to_host(
        [table for pending in waiting for table in pending.tables],
        [pending.norm for pending in waiting],
    )
    seconds = (time.monotonic() - since) / len(waiting)
    found: list[StepFacts] = []
    for pending, norm in zip(waiting, norms, strict=True):
        mine, tables = tables[: len(pending.tables)], tables[len(pending.tables) :]
        everyone = [table for rank in ranks.gather(mine) for table in rank]
        found.append(_facts(pending, everyone, plan, norm, seconds))
    return found


def _facts(
    pending: Pending, tables: list[HostTable], plan: Plan, norm: float, seconds: float
) -> StepFacts:
    parts = loss_parts(tables, plan.objective)
    return StepFacts(
        step=pending.step + 1,
        total=plan.total_steps,
        rows=row_facts(tables, plan.objective),
        loss=sum(parts.values()),
        grad_norm=norm,
        learning_rate=pending.rate,
        seconds=seconds,
        n_tokens_fed=sum(table.n_fed for table in tables),
        n_tokens_equivalent=sum(
            tree.n_tokens + (len(tree.branches) - 1) * len(tree.prompt)
            for tree in (row.tree for row in pending.rows)
        ),
        epoch=pending.step // plan.steps_per_epoch + 1,
        terms=parts if len(parts) > 1 else {},
    )


def stop_at(facts: StepFacts) -> NoReturn:
    """TrainingError for a step that is not finite, with the rows that made it so."""
    rows = facts.rows
    bad = [i for i, ok in zip(rows.ids, np.isfinite(rows.values), strict=True) if not ok]
    what = "loss" if bad else "gradient"
    ids = bad or list(rows.ids)
    shown = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
    raise TrainingError(
        f"step {facts.step}: the {what} is not finite; rows: {shown}",
        hint="lower learning_rate or set dtype to float32; if it is always the same row, drop it",
    )
