"""How a run begins: ranks joined, a plan made, the folder taken; then the loop has it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from prefkit.core.errors import EnvironmentFault, PrefkitError, TrainingError, WorkspaceError
from prefkit.core.files import holding
from prefkit.core.progress import Progress, silent
from prefkit.core.rng import derive_seed
from prefkit.policy.load import Policy, four_bits, load_policy, pick_device, pick_dtype
from prefkit.policy.resolve import ModelSource
from prefkit.policy.rewards import load_reward_model
from prefkit.training import checkpoint
from prefkit.training.borrowed import borrowed
from prefkit.training.loop import Run
from prefkit.training.objective import Constraint
from prefkit.training.out_folder import check_earlier, check_out, clear_unfinished
from prefkit.training.plan import Plan, make_plan
from prefkit.training.ranks import Ranks, check_launch, join_ranks
from prefkit.training.reference import score_other
from prefkit.training.result import TrainResult, finished
from prefkit.training.settings import TrainSettings


def run(
    model: str | ModelSource | Policy,
    data: Any,
    settings: TrainSettings,
    *,
    out: Path,
    start_adapter: Path | None,
    heldout: Any,
    constraints: Sequence[Constraint],
    mapping: Mapping[str, str] | None,
    overwrite: bool,
    progress: Progress,
) -> TrainResult:
    """``prefkit.training.train`` with its heavy imports done."""
    started = time.monotonic()
    ranks = join_ranks(settings)
    progress = progress if ranks.leads else silent
    try:
        with _full_memory_told():
            check_launch(settings, ranks)
            if ranks.leads:
                models = [*_named(model), start_adapter, settings.reference]
                check_out(out, settings, models, [data, heldout])
            # What rank 0 downloads or converts, the others find done.
            with ranks.leader_first():
                plan = make_plan(
                    model,
                    data,
                    settings,
                    out=out,
                    start=start_adapter,
                    heldout=heldout,
                    constraints=constraints,
                    mapping=mapping,
                    progress=progress,
                )
            return _planned(plan, ranks, overwrite=overwrite, progress=progress, started=started)
    except PrefkitError as error:
        ranks.tell(error)
        raise


@contextlib.contextmanager
def _full_memory_told() -> Generator[None]:
    """Memory that runs out where no pack can be halved, as a fault that says what takes less."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EnvironmentFault(
            f"the device's memory is full: {'. '.join(str(error).split('. ')[:2])}",
            hint="end what else uses the device, set activation_checkpointing=true, lower "
            "tokens_at_once, max_length or lora.r, or choose a smaller model",
        ) from None


def _named(model: str | ModelSource | Policy) -> list[str | Path]:
    """Where the model's files may be."""
    if isinstance(model, str):
        return [model]
    source = model.source if isinstance(model, Policy) else model
    return [source.spec, source.path]


def _planned(
    plan: Plan, ranks: Ranks, *, overwrite: bool, progress: Progress, started: float
) -> TrainResult:
    out, settings = plan.out, plan.settings
    if len(set(ranks.gather(plan.run))) > 1:
        raise TrainingError(
            "the processes do not have the same model, data and settings",
            hint="give all of them the same files and the same versions of all packages",
        )
    earlier = ranks.gather(finished(plan) if ranks.leads else None)[0]
    if earlier is not None:
        if ranks.leads:
            checkpoint.clear(out, run=plan.run)  # a kill after the manifest leaves them
        return earlier
    busy = WorkspaceError(
        f"{out}: another process is training into this folder",
        hint="wait for it to end, or choose another --out",
    )
    lock = holding(out / ".lock", busy=busy) if ranks.leads else contextlib.nullcontext()
    with lock, _lent(plan, ranks):
        if ranks.leads and not overwrite:
            check_earlier(plan)
        state = _prepared(plan, ranks, progress)
        on_gpu = state.device.type == "cuda"
        # Dropout draws from torch's global generators: fork them, the caller's stay as they are.
        with torch.random.fork_rng(devices=[state.device] if on_gpu else []):
            torch.manual_seed(derive_seed("dropout", settings.seed, ranks.rank))
            return state.go(started)


def _lent(plan: Plan, ranks: Ranks) -> contextlib.AbstractContextManager[None]:
    """Inside, the caller's model is the run's; one that is sharded does not go back."""
    if plan.loaded is None or ranks.sharded:
        return contextlib.nullcontext()
    return borrowed(plan.loaded.model)


def _prepared(plan: Plan, ranks: Ranks, progress: Progress) -> Run:
    """The run, and its folder as it needs it: touched only once nothing is left to be refused."""
    ranks.wait()
    settings = plan.settings
    if settings.method == "qlora" and plan.loaded is None:
        four_bits(pick_device(settings.device), pick_dtype(settings.dtype))
    known = score_other(plan, ranks, progress)
    load = load_reward_model if plan.objective.rewards else load_policy
    policy = plan.loaded or load(
        plan.source,
        dtype=settings.dtype,
        device=settings.device,
        quantize=settings.method == "qlora",
    )
    made = Run(plan, policy, known, ranks, progress)
    if ranks.leads:
        clear_unfinished(plan)
    ranks.wait()
    return made
