"""Token rows as trees: a prompt and the answers that branch from it. numpy only.

Knows neither tokenizers nor models: template.py builds trees, logps.py scores them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """One answer: token ids (C,) int32 and, for each, whether it is scored (C,) bool.

    Unscored tokens (a user's turn inside an answer, a tool's result) are read, never predicted.
    """

    ids: NDArray[np.int32]
    scored: NDArray[np.bool_]

    @property
    def n_scored(self) -> int:
        """How many tokens are scored."""
        return int(np.count_nonzero(self.scored))


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A prompt (P,) int32, P ≥ 1, and the answers to it, each a branch that sees no other."""

    prompt: NDArray[np.int32]
    branches: tuple[Branch, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens of the prompt and of all branches: what a row that shares the prompt holds."""
        return len(self.prompt) + sum(len(branch.ids) for branch in self.branches)

    @property
    def longest(self) -> int:
        """Tokens of the prompt and the longest branch together."""
        return len(self.prompt) + max((len(branch.ids) for branch in self.branches), default=0)

    @property
    def n_scored(self) -> int:
        """How many tokens are scored in all branches."""
        return sum(branch.n_scored for branch in self.branches)
