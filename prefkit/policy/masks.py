"""Which tokens of a packed row see which: the tree mask, dense or in blocks.

A token sees the virtual tokens, and of the tokens before it and itself those of its own tree that
belong to the prompt or to its own branch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefkit.policy.packing import Ints, Packed


def dense_mask(tree: Tensor, branch: Tensor, n_virtual: int, dtype: torch.dtype | None) -> Tensor:
    """(1, 1, T, n_virtual + T): True where a query may look; with ``dtype`` 0 there, else minimum.

    tree, branch (T,): see Packed. T² entries: for rows of a few thousand tokens.
    """
    same = tree[:, None] == tree[None, :]
    seen = same & ((branch[None, :] == 0) | (branch[:, None] == branch[None, :]))
    allowed = seen.tril_()
    if n_virtual:
        allowed = torch.nn.functional.pad(allowed, (n_virtual, 0), value=True)
    allowed = allowed[None, None]
    if dtype is None:
        return allowed
    return torch.zeros(allowed.shape, dtype=dtype, device=tree.device).masked_fill_(
        ~allowed, torch.finfo(dtype).min
    )


def block_mask(packed: Packed, tree: Tensor, branch: Tensor, n_virtual: int, block: int) -> Any:
    """The same mask as FlexAttention's BlockMask, for a packed row whose length fills its blocks.

    Which blocks are empty, partial or full is found on the host from the segments' borders: no T²
    tensor and no wait for the device. (torch.nn.attention.varlen would need keys and values copied
    for every branch instead.)
    """
    # Imported here: it pulls in torch's compiler.
    from torch.nn.attention.flex_attention import BlockMask

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        at = (key - n_virtual).clamp(min=0)
        branch_of = branch[at]
        own = (branch_of == 0) | (branch_of == branch[query])
        return (key < n_virtual) | ((tree[at] == tree[query]) & own & (at <= query))

    partial, full = _blocks(packed.tree[0], packed.branch[0], n_virtual, block)
    lists = [
        torch.from_numpy(part).to(tree.device, non_blocking=True) for part in (*partial, *full)
    ]
    length = len(tree)
    return BlockMask.from_kv_blocks(
        *lists, BLOCK_SIZE=block, mask_mod=seen, seq_lengths=(length, n_virtual + length)
    )


def _blocks(
    tree: Ints, branch: Ints, n_virtual: int, block: int
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(count (1, 1, Q), indices (1, 1, Q, K)) int32 of partial and of full blocks of keys."""
    length = len(tree)
    changes = (np.diff(tree) != 0) | (np.diff(branch) != 0)
    begins = np.concatenate([[0], np.flatnonzero(changes) + 1])
    ends = np.concatenate([begins[1:], [length]])
    # A query sees no less than one before it in its run: of every run and block of queries the
    # first and the last say what those between them see.
    blocks = np.arange(0, length, block)
    first = np.union1d(begins, blocks)
    last = np.concatenate([first[1:], [length]]) - 1
    run = np.searchsorted(begins, first, side="right") - 1
    # A tree's prompt is its first run; padding and prompts see nothing but their own run.
    first_run = np.maximum.accumulate(np.where(branch[begins] <= 0, np.arange(len(begins)), 0))
    prompt = first_run[run]
    edges = np.arange(0, n_virtual + length, block)

    def overlap(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        low = np.maximum(start[:, None], edges[None, :])
        high = np.minimum(stop[:, None], edges[None, :] + block)
        return np.maximum(high - low, 0)

    in_branch = prompt != run
    shared = in_branch[:, None] * overlap(n_virtual + begins[prompt], n_virtual + ends[prompt])
    shared += overlap(np.zeros_like(first), np.full_like(first, n_virtual))
    least, most = (
        shared + overlap(n_virtual + begins[run], n_virtual + query + 1) for query in (first, last)
    )
    of_block = np.searchsorted(first, blocks)
    full = np.logical_and.reduceat(least == block, of_block)
    return _listed(np.logical_or.reduceat(most > 0, of_block) & ~full), _listed(full)


def _listed(present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many blocks each row of ``present`` (Q, K) has, and their columns first."""
    order = np.argsort(~present, axis=1, kind="stable").astype(np.int32)
    return present.sum(axis=1).astype(np.int32)[None, None], order[None, None]
