"""The processes of one training run: who am I, how many are we, and the few things we exchange.

Started by ``accelerate launch`` (or torchrun), which set WORLD_SIZE and RANK; a run of one process
never touches torch.distributed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among ``world``; rank 0 writes what a run leaves.

    sharded: parameters are split over the ranks (FSDP2), so that every rank has to run every
    forward pass of the others.
    """

    rank: int = 0
    world: int = 1
    sharded: bool = False

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Add up each tensor over the ranks, in place: one exchange for each dtype."""
        if self.world == 1:
            return
        for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
            group = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in group])
            dist.all_reduce(flat)
            for tensor, part in zip(group, flat.split([t.numel() for t in group]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def wrap(self, scorer: nn.Module) -> nn.Module:
        """The scorer as this launch runs it: sharded over the ranks under FSDP2, else as it is."""
        if not self.sharded:
            return scorer
        from accelerate import Accelerator

        return Accelerator().prepare(scorer)

    def whole(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Parameters by name with the parts of all ranks put together."""
        return {name: _full(value.detach()) for name, value in values.items()}

    def gather(self, value: Any) -> list[Any]:
        """``value`` of every rank, by rank; small Python values only."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Return when every rank is here."""
        if self.world > 1:
            dist.barrier()


def _full(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


def join_ranks() -> Ranks:
    """The ranks of this launch; sets torch.distributed up if a launcher asks for it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Ranks()
    from accelerate import PartialState

    state = PartialState()
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return Ranks(state.process_index, state.num_processes, sharded)
