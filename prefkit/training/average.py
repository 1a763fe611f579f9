"""The exponential moving average of what is trained: the reference of TR-DPO's soft update.

arXiv 2404.09656, eq. 4, over the adapter's parameters: θ_ref ← decay · θ_ref + (1 − decay) · θ.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from prefkit.training.masters import Masters


class MovingAverage:
    """``values``: name → fp32 average of each master; it starts at the masters as they are."""

    def __init__(self, masters: Masters, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in masters.values.items()}

    @torch.no_grad()
    def update(self, masters: Masters) -> None:
        """Take one step towards the masters."""
        for name, average in self.values.items():
            average.lerp_(masters.values[name], 1 - self.decay)

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Take over saved averages."""
        for name, average in self.values.items():
            average.copy_(values[name])

    @contextmanager
    def inside(self, masters: Masters) -> Generator[None]:
        """The model with the averages as its parameters; afterwards as it was."""
        kept = {name: value.detach().clone() for name, value in masters.values.items()}
        masters.load(self.values)
        try:
            yield
        finally:
            masters.load(kept)
