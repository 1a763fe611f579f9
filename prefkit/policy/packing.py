"""Trees as one forward pass: where every token sits, what it may see, what it predicts. numpy only.

Shared: all trees in one row, prompt, branch, branch, …, next prompt. A token sees, of the tokens
before it, its own tree's prompt and its own branch; positions restart where a branch leaves the
prompt. Padded: an answer a row, prompt and answer, filled up on the right; there the causal mask
is enough, because padding comes after all that is real.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from prefkit.policy.trees import Branch, Tree

if TYPE_CHECKING:
    import torch

Ints = NDArray[np.int64]
# A dense mask costs T² and saved activations T: SmolLM2 with LoRA in fp32 took 17, 18, 25 and 36 s
# of one core and 2.2, 2.5, 4.0 and 6.8 GB for the same 8 pairs in packs of 256, 512, 1024 and 2048
# (2026-11-21). A GPU skips masked blocks and wants long rows.
TOKENS_ON_CPU = 256
TOKENS_ON_GPU = 16384
TOKENS_UNDER_A_MASK = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """How trees become rows, which attention they meet, and why (one sentence for the log)."""

    kind: Literal["tree", "padded"]
    kernel: Literal["sdpa", "flex"]
    reason: str


def size_of(tree: Tree, layout: Layout) -> int:
    """Tokens that a tree feeds: with the prompt once, or once an answer."""
    if layout.kind == "tree":
        return tree.n_tokens
    return tree.n_tokens + (len(tree.branches) - 1) * len(tree.prompt)


def tokens_at_once(
    wanted: int | None, device: torch.device, dtype: torch.dtype, layout: Layout
) -> int:
    """The tokens in memory at once: as wanted, else by device, precision and attention.

    A dense mask costs the square of a pack, so a GPU without FlexAttention gets smaller ones.
    """
    if wanted is not None:
        return wanted
    if device.type != "cuda":
        return TOKENS_ON_CPU * (2 if dtype.itemsize < 4 else 1)
    return TOKENS_ON_GPU if layout.kernel == "flex" else TOKENS_UNDER_A_MASK


def plan_packs(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of ``sizes`` in packs of at most ``budget``: first fit by decreasing size, stable.

    What alone is larger than the budget gets a pack of its own. Packs come in the order in which
    they were opened, indices within a pack in theirs.
    """
    packs: list[list[int]] = [[] for _ in sizes]
    # A binary tree over the packs, its leaves from n_leaves on: the most room below each node. So
    # the first pack with room is found in log n steps; ten thousand trees may have as many packs.
    n_leaves = 1 << max(len(sizes) - 1, 0).bit_length()
    room = [budget] * (2 * n_leaves)
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        node = 1
        while node < n_leaves:
            node = 2 * node if room[2 * node] >= min(sizes[index], budget) else 2 * node + 1
        packs[node - n_leaves].append(index)
        room[node] -= sizes[index]
        while node > 1:
            node //= 2
            room[node] = max(room[2 * node], room[2 * node + 1])
    return [sorted(pack) for pack in packs if pack]


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Host arrays of one pass; B rows of T tokens, N scored tokens.

    tree, branch (B, T): the tree of a token and its branch (0 in a prompt, else counted from 1
    through the pack); −1 in padding. where (N,): flat position of the token that predicts a scored
    one; targets (N,): the scored one; answer (N,): the branch it belongs to, counted from 0.
    last (n_answers,): flat position of each answer's last token. n_real: tokens but padding.
    """

    ids: Ints
    positions: Ints
    tree: Ints
    branch: Ints
    where: Ints
    targets: Ints
    answer: Ints
    last: Ints
    n_real: int

    @property
    def n_answers(self) -> int:
        """Branches in the pack, those without a scored token too."""
        return len(self.last)


def pack_shared(trees: Sequence[Tree], *, whole: bool, multiple: int = 1) -> Packed:
    """All trees in one row. Tokens that predict nothing are left out, unless ``whole``.

    multiple: the row is filled up to a multiple of so many tokens.
    """
    rows = _Rows()
    rows.open()
    for index, tree in enumerate(trees):
        needed = whole or tree.n_scored > 0
        prompt_end = rows.put(tree.prompt, 0, index, 0) if needed else 0
        for branch in tree.branches:
            rows.put_branch(tree, branch, index, prompt_end, whole)
    return rows.packed(multiple)


def pack_padded(trees: Sequence[Tree], *, whole: bool) -> Packed:
    """A row for every answer, filled up on the right; none for an answer without scored tokens."""
    rows = _Rows()
    for index, tree in enumerate(trees):
        for branch in tree.branches:
            prompt_end = 0
            if whole or branch.n_scored:
                rows.open()
                prompt_end = rows.put(tree.prompt, 0, index, 0)
            rows.put_branch(tree, branch, index, prompt_end, whole)
    return rows.packed(1)


@dataclass(frozen=True, slots=True, eq=False)
class _Segment:
    """Tokens that follow one another in a row. position: of the first."""

    ids: NDArray[np.int32]
    position: int
    tree: int
    branch: int


class _Rows:
    """Rows under construction; ``put`` goes to the one opened last."""

    def __init__(self) -> None:
        self.segments: list[list[_Segment]] = []
        self.lengths: list[int] = []
        self.scored: list[tuple[int, Ints, NDArray[np.int32]]] = []
        self.ends: list[tuple[int, int]] = []

    def open(self) -> None:
        """Begin a row."""
        self.segments.append([])
        self.lengths.append(0)

    def put(self, ids: NDArray[np.int32], position: int, tree: int, branch: int) -> int:
        """Append tokens; the column after them."""
        self.segments[-1].append(_Segment(ids, position, tree, branch))
        self.lengths[-1] += len(ids)
        return self.lengths[-1]

    def put_branch(
        self, tree: Tree, branch: Branch, index: int, prompt_end: int, whole: bool
    ) -> None:
        """Append a branch as far as it is needed, and note what is scored."""
        scored = np.flatnonzero(branch.scored)
        n_fed = len(branch.ids) if whole else int(scored[-1]) if len(scored) else 0
        row, start = len(self.lengths) - 1, self.lengths[-1] if self.lengths else 0
        number = len(self.ends) + 1
        if n_fed:
            self.put(branch.ids[:n_fed], len(tree.prompt), index, number)
        # A branch's first token is predicted by the prompt's last, whatever lies between them.
        columns = np.where(scored == 0, prompt_end - 1, start + scored - 1)
        self.scored.append((row, columns, branch.ids[scored]))
        self.ends.append((row, start + n_fed - 1 if n_fed else prompt_end - 1))

    def packed(self, multiple: int) -> Packed:
        """The arrays of all rows."""
        width = -(-max(self.lengths, default=0) // multiple) * multiple
        shape = (len(self.lengths), width)
        ids, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        tree, branch = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)
        for row, segments in enumerate(self.segments):
            column = 0
            for segment in segments:
                here = slice(column, column := column + len(segment.ids))
                ids[row, here] = segment.ids
                positions[row, here] = np.arange(len(segment.ids)) + segment.position
                tree[row, here], branch[row, here] = segment.tree, segment.branch
        return Packed(
            ids=ids,
            positions=positions,
            tree=tree,
            branch=branch,
            where=_joined([row * width + columns for row, columns, _ in self.scored]),
            targets=_joined([targets for _, _, targets in self.scored]),
            answer=np.repeat(
                np.arange(len(self.scored)), [len(columns) for _, columns, _ in self.scored]
            ),
            last=np.array([row * width + column for row, column in self.ends], np.int64),
            n_real=sum(self.lengths),
        )


def _joined(parts: Sequence[NDArray[np.integer]]) -> Ints:
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)
