"""Random trees, and log-probs the slow way: a row an answer, all logits, no packing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from prefkit.policy.trees import Branch, Tree

VOCABULARY = 90


def make_tree(prompt: Sequence[int], *answers: Sequence[int]) -> Tree:
    """A tree whose every answer token is scored."""
    branches = tuple(Branch(np.array(a, np.int32), np.ones(len(a), np.bool_)) for a in answers)
    return Tree(np.array(prompt, np.int32), branches)


def random_trees(seed: int, *, n: int = 3, branches: int = 3, longest: int = 12) -> list[Tree]:
    """Trees of 1 … branches answers; some answer tokens are not scored, some answers empty."""
    draw = np.random.default_rng(seed)
    trees: list[Tree] = []
    for _ in range(n):
        prompt = draw.integers(0, VOCABULARY, draw.integers(1, longest)).astype(np.int32)
        sizes = draw.integers(0, longest, draw.integers(1, branches + 1))
        answers = [draw.integers(0, VOCABULARY, size).astype(np.int32) for size in sizes]
        trees.append(Tree(prompt, tuple(Branch(a, draw.random(len(a)) < 0.7) for a in answers)))
    return trees


trees = st.builds(
    random_trees,
    st.integers(0, 10_000),
    n=st.integers(1, 4),
    branches=st.integers(1, 5),
)


def naive_tables(model: Any, given: Sequence[Tree]) -> list[tuple[Branch, Tensor]]:
    """Each branch with the (C, V) log-softmax before its tokens: one forward a branch."""
    found: list[tuple[Branch, Tensor]] = []
    for tree in given:
        for branch in tree.branches:
            ids = torch.from_numpy(np.concatenate([tree.prompt, branch.ids]).astype(np.int64))
            logits = model(input_ids=ids[None], use_cache=False).logits[
                0, -1 - len(branch.ids) : -1
            ]
            precise = logits if logits.dtype == torch.float64 else logits.float()
            found.append((branch, precise.log_softmax(-1)))
    return found


def naive_logps(model: Any, given: Sequence[Tree]) -> Tensor:
    """(N,) log-probs of scored tokens in the order of tree_logps."""
    parts: list[Tensor] = []
    for branch, table in naive_tables(model, given):
        ids = torch.from_numpy(branch.ids.astype(np.int64))
        parts.append(table.gather(1, ids[:, None]).squeeze(1)[torch.from_numpy(branch.scored)])
    return torch.cat(parts)
