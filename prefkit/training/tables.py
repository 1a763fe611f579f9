"""What packs came to: tables on the device, copied to the host only when a step is logged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prefkit.policy.logp_store import Floats
from prefkit.training.facts import RowFacts
from prefkit.training.objective import Objective
from prefkit.training.rows import Row


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What a pack came to, on the device.

    parts: (parts,), what it adds to each part of the step's loss; values: (rows,) losses; policy,
    reference: (rows, n) sums; entropy: (), its sum over the scored tokens, or None; n_fed: tokens
    that went through the model.
    """

    rows: tuple[Row, ...]
    parts: Tensor
    values: Tensor
    policy: Tensor
    reference: Tensor | None
    entropy: Tensor | None
    n_fed: int


@dataclass(frozen=True, slots=True, eq=False)
class HostTable:
    """A Table copied from the device; small enough to be sent between ranks."""

    ids: list[str]
    p: list[float]
    weight: list[float]
    n_tokens: list[list[int]]
    parts: Floats
    values: Floats
    policy: Floats
    reference: Floats | None
    entropy: float | None
    n_fed: int


def to_host(
    tables: Sequence[Table], numbers: Sequence[Tensor] = ()
) -> tuple[list[HostTable], list[float]]:
    """``tables`` and single numbers () on the host: one copy, so one wait for the device."""
    tensors = [
        tensor
        for t in tables
        for tensor in (t.parts, t.values, t.policy, t.reference, t.entropy)
        if tensor is not None
    ]
    tensors += numbers
    if not tensors:
        return [], []
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).cpu()
    parts = flat.split([tensor.numel() for tensor in tensors])
    copied = iter([part.view(t.shape).numpy() for part, t in zip(parts, tensors, strict=True)])
    found = [
        HostTable(
            ids=[row.id for row in table.rows],
            p=[row.p for row in table.rows],
            weight=[row.weight for row in table.rows],
            n_tokens=[[branch.n_scored for branch in row.tree.branches] for row in table.rows],
            parts=next(copied),
            values=next(copied),
            policy=next(copied),
            reference=None if table.reference is None else next(copied),
            entropy=None if table.entropy is None else float(next(copied)),
            n_fed=table.n_fed,
        )
        for table in tables
    ]
    return found, [float(number) for number in copied]


def row_facts(tables: Sequence[HostTable], objective: Objective) -> RowFacts:
    """The rows of several tables as the monitor reads them."""
    width = max(table.policy.shape[1] for table in tables)

    def joined(parts: Sequence[Floats]) -> Floats:
        wide = [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts]
        return np.concatenate(wide)

    counts = [row + [0] * (width - len(row)) for table in tables for row in table.n_tokens]
    references = [table.reference for table in tables if table.reference is not None]
    entropies = [table.entropy for table in tables if table.entropy is not None]
    n_tokens = np.asarray(counts)
    return RowFacts(
        ids=[id_ for table in tables for id_ in table.ids],
        target=objective.target,
        p=np.asarray([p for table in tables for p in table.p]),
        weight=np.asarray([w for table in tables for w in table.weight]),
        values=np.concatenate([table.values for table in tables]),
        policy=joined([table.policy for table in tables]),
        reference=joined(references) if references else None,
        n_tokens=n_tokens,
        beta=objective.beta,
        per_token=objective.per_token,
        is_reward=objective.rewards,
        entropy=sum(entropies) / max(1, int(n_tokens.sum())) if entropies else None,
    )


def loss_parts(tables: Sequence[HostTable], objective: Objective) -> dict[str, float]:
    """The step's loss by part, whose sum it is."""
    columns = zip(*(table.parts.tolist() for table in tables), strict=True)
    return {name: sum(column) for name, column in zip(objective.part_names, columns, strict=True)}
