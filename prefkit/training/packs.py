"""Rows that go through the model together: indices made on the host, sums on the device.

A pack is one forward pass. Which rows share a pack changes no result beyond rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prefkit.policy.logp_store import Floats, logp_keys
from prefkit.policy.packing import plan_packs, size_of, tokens_at_once
from prefkit.policy.trees import Tree
from prefkit.training.losses import Targets, Votes
from prefkit.training.rows import Row
from prefkit.training.votes import RowVote

__all__ = ["Pack", "halved", "make_pack", "packs_of_ranks", "size_of", "tokens_at_once"]

Put = Callable[[object, torch.dtype], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """Rows of one forward pass with their labels on the device; n = most answers of a row.

    slot: (answers,) where each answer's sum goes in (rows · n). row_of: (answers,) its row.
    answer: (N,) the answer of each scored token. n_tokens: (rows, n). reference: (N,) log-probs or
    None. weight: (rows,).
    """

    rows: tuple[Row, ...]
    slot: Tensor
    row_of: Tensor
    answer: Tensor
    n_tokens: Tensor
    targets: Targets
    weight: Tensor
    reference: Tensor | None

    @property
    def trees(self) -> list[Tree]:
        """What the model scores."""
        return [row.tree for row in self.rows]

    def spread(self, sums: Tensor, *, empty: float = 0.0) -> Tensor:
        """(rows, n) of one value an answer (answers,); ``empty`` where a row has no such answer."""
        flat = sums.new_full((self.n_tokens.numel(),), empty)
        return flat.index_copy(0, self.slot, sums).view(self.n_tokens.shape)


def make_pack(
    rows: Sequence[Row],
    *,
    device: torch.device,
    dtype: torch.dtype,
    reference: Mapping[bytes, Floats] | None = None,
) -> Pack:
    """The pack of ``rows``. dtype: of labels and sums, fp32 or fp64. reference: by key."""
    trees = [row.tree for row in rows]
    width = max(len(tree.branches) for tree in trees)
    counts = [[b.n_scored for b in tree.branches] for tree in trees]
    flat = [n for row in counts for n in row]
    slot = [i * width + j for i, row in enumerate(counts) for j in range(len(row))]
    padded = [[*row, *([0] * (width - len(row)))] for row in counts]

    def put(values: object, kind: torch.dtype) -> Tensor:
        return torch.as_tensor(values, dtype=kind).to(device, non_blocking=True)

    return Pack(
        rows=tuple(rows),
        slot=put(slot, torch.long),
        row_of=put([i for i, row in enumerate(counts) for _ in row], torch.long),
        answer=put(np.repeat(np.arange(len(flat)), flat), torch.long),
        n_tokens=put(padded, torch.long),
        targets=_targets(rows, put, dtype),
        weight=put([row.weight for row in rows], dtype),
        reference=None if reference is None else put(_known(trees, reference), dtype),
    )


def _known(trees: Sequence[Tree], reference: Mapping[bytes, Floats]) -> Floats:
    return np.concatenate([reference[key] for tree in trees for key in logp_keys(tree)])


def _targets(rows: Sequence[Row], put: Put, dtype: torch.dtype) -> Targets:
    """p, and margin and votes where any row has them; a row without a margin has 0."""
    margin = votes = None
    if any(row.margin is not None for row in rows):
        margin = put([row.margin or 0.0 for row in rows], dtype)
    most = max(len(row.votes) for row in rows)
    if most:
        filled = [[*row.votes, *([None] * (most - len(row.votes)))] for row in rows]
        votes = Votes(
            share=put([[v.share if v else 0.5 for v in row] for row in filled], dtype),
            error=put([[_error_rate(v) for v in row] for row in filled], dtype),
            present=put([[v is not None for v in row] for row in filled], torch.bool),
        )
    return Targets(put([row.p for row in rows], dtype), margin, votes)


def _error_rate(vote: RowVote | None) -> float:
    """Negative where the rater's rate is not known: the loss puts its own default there."""
    return -1.0 if vote is None or vote.error_rate is None else vote.error_rate


def packs_of_ranks(sizes: Sequence[int], budget: int, world: int) -> list[list[list[int]]]:
    """For each rank its packs of at most ``budget`` tokens, as indices of ``sizes``.

    Each index goes to one rank, the largest first to the rank with the fewest tokens so far, so
    that no rank waits long for another. A rank may have none.
    """
    if world == 1:
        return [plan_packs(sizes, budget)]
    shares: list[list[int]] = [[] for _ in range(world)]
    loads = [0] * world
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        rank = loads.index(min(loads))
        shares[rank].append(index)
        loads[rank] += sizes[index]
    return [
        [[share[i] for i in pack] for pack in plan_packs([sizes[i] for i in share], budget)]
        for share in (sorted(share) for share in shares)
    ]


def halved(members: list[int]) -> tuple[list[int], list[int]]:
    """A pack's members as two packs."""
    half = len(members) // 2
    return members[:half], members[half:]
