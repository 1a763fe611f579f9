"""The processes of one training run: who am I, how many are we, and the few things we exchange.

Started by ``accelerate launch`` (or torchrun), which set WORLD_SIZE and RANK; a run of one process
never touches torch.distributed. Accelerate starts the process group and picks the device; nothing
is wrapped or averaged by it, since gradients are sums over all ranks' rows.

Faults travel with the exchanges: whatever a rank waits for, it first hears whether another one has
failed, so a fault on one rank ends all of them with one message.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from prefkit.core.errors import ConfigError, PrefkitError, ToldElsewhere, TrainingError
from prefkit.training.settings import TrainSettings

# Others wait this long for one rank's work, such as a download; a rank that dies does not count:
# the launcher ends the rest.
PATIENCE = timedelta(days=1)


@dataclass(slots=True, eq=False)
class Ranks:
    """This process among ``world``; rank 0 writes what a run leaves, and speaks.

    sharded: parameters are split over the ranks (FSDP2), so that every rank has to run every
    forward pass of the others. at_work: they are split by now, so a rank may be waiting inside a
    forward pass, where no message reaches it.
    """

    rank: int = 0
    world: int = 1
    sharded: bool = False
    at_work: bool = False
    messages: Any = None

    @property
    def checkpoints_activations(self) -> bool:
        """Whether the launcher asks for it, as accelerate's FSDP configuration can."""
        return self.sharded and _asked("FSDP_ACTIVATION_CHECKPOINTING", "")

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Add up each tensor over the ranks, in place: one exchange for each dtype."""
        if self.world == 1:
            return
        if not self.at_work:
            self.wait()
        for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
            group = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in group])
            dist.all_reduce(flat)
            for tensor, part in zip(group, flat.split([t.numel() for t in group]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def gather(self, value: Any) -> list[Any]:
        """``value`` of every rank, by rank; Python values, sent over the host.

        Raises ToldElsewhere where another rank has a fault instead.
        """
        if self.world == 1:
            return [value]
        values, faults = self._exchange(value, None)
        if faults:
            raise _as_told(*faults[0])
        return values

    def wait(self) -> None:
        """Return when every rank is here; ToldElsewhere where one has a fault instead."""
        self.gather(None)

    @contextmanager
    def leader_first(self) -> Generator[None]:
        """The block runs on rank 0, then on the others: they find what it has made."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()

    def tell(self, error: PrefkitError) -> None:
        """Let the other ranks know why this one stops; they meet it at their next exchange.

        Raises ToldElsewhere where a lower rank stops too: one message is enough. Once parameters
        are sharded, only faults that every rank has are told; with any other the launcher ends
        the ranks that wait.
        """
        if self.world == 1 or isinstance(error, ToldElsewhere):
            return
        # A TrainingError is seen in numbers that were exchanged before: all ranks have it.
        if self.at_work and not isinstance(error, TrainingError):
            return
        _, faults = self._exchange(None, (error.message, error.hint))
        if faults[0][0] != self.rank:
            raise _as_told(*faults[0]) from error

    def _exchange(
        self, value: Any, fault: tuple[str, str | None] | None
    ) -> tuple[list[Any], list[tuple[int, tuple[str, str | None]]]]:
        """Values and faults of all ranks."""
        sent: list[Any] = [None] * self.world
        dist.all_gather_object(sent, (value, fault), group=self.messages)
        faults = [(rank, fault) for rank, (_, fault) in enumerate(sent) if fault is not None]
        return [value for value, _ in sent], faults


def _as_told(rank: int, fault: tuple[str, str | None]) -> ToldElsewhere:
    message, hint = fault
    return ToldElsewhere(f"rank {rank}: {message}", hint=hint)


def leads() -> bool:
    """Whether this process speaks for the run: rank 0, or the only one there is."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def join_ranks(settings: TrainSettings) -> Ranks:
    """The ranks of this launch; sets torch.distributed up if a launcher asks for it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Ranks()
    # With it transformers would load the weights on rank 0 only and leave zeros on the others.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    messages = _join(settings.device == "cpu" or not torch.cuda.is_available())
    return Ranks(dist.get_rank(), dist.get_world_size(), _asked("USE_FSDP"), messages=messages)


@cache
def _join(on_cpu: bool) -> Any:
    """Start the process group; the group that carries Python values, over the host."""
    from accelerate import PartialState

    if not dist.is_initialized():
        # Without cpu=True accelerate takes a machine without accelerators for a single process.
        PartialState(cpu=on_cpu)
        atexit.register(dist.destroy_process_group)
    return dist.new_group(backend="gloo", timeout=PATIENCE)


def check_launch(settings: TrainSettings, ranks: Ranks) -> None:
    """ConfigError for what accelerate was asked for and prefkit does not do."""
    if ranks.world == 1:
        return
    for key in ("USE_DEEPSPEED", "USE_MEGATRON_LM", "USE_PARALLELISM_CONFIG"):
        if _asked(key):
            raise ConfigError(
                f"accelerate's configuration sets ACCELERATE_{key}; prefkit trains with DDP or "
                "FSDP2",
                hint="accelerate launch --multi_gpu, or --use_fsdp --fsdp_version 2",
            )
    if settings.device.startswith("cuda:"):
        raise ConfigError(
            f"device is {settings.device}: every process would use that one GPU",
            hint="leave device at auto, each process gets its own",
        )
    if ranks.sharded:
        _check_fsdp(settings)


def _check_fsdp(settings: TrainSettings) -> None:
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise ConfigError(
            "accelerate's configuration asks for FSDP 1; prefkit trains with FSDP2",
            hint="set fsdp_version: 2 in it, or pass --fsdp_version 2",
        )
    if _asked("FSDP_OFFLOAD_PARAMS", ""):
        raise ConfigError(
            "accelerate's configuration sets fsdp_offload_params, which prefkit does not do",
            hint="set it to false; method lora and activation_checkpointing save memory too",
        )
    if settings.method == "qlora":
        raise ConfigError(
            "method qlora: 4-bit weights cannot be sharded by FSDP2",
            hint="launch it with --multi_gpu (every GPU holds the 4-bit model), or use method lora",
        )


def _asked(key: str, prefix: str = "ACCELERATE_") -> bool:
    return os.environ.get(prefix + key, "false").lower() == "true"
