"""Everything a training run is made of, settled before any weight is loaded.

The run's digest covers model, starting adapter, tokens, labels, settings and torch: the same
digest means the same adapter, so a finished run is not done again and a killed one goes on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from prefkit.core.errors import DataError
from prefkit.core.files import read_json
from prefkit.core.ids import content_id
from prefkit.core.progress import Progress
from prefkit.core.rng import derive_rng
from prefkit.policy.load import adapter_digest, load_tokenizer, pick_device
from prefkit.policy.resolve import ModelSource, resolve_model
from prefkit.training.losses import Loss, losses
from prefkit.training.rows import PairRow, Pairs, encode_examples, micro_batches, read_examples
from prefkit.training.settings import TrainSettings

Batch = list[PairRow]


@dataclass(frozen=True, slots=True)
class Plan:
    """The inputs of a run; ``batches`` are its micro-batches, in order of length."""

    source: ModelSource
    settings: TrainSettings
    loss: Loss
    pairs: Pairs
    heldout: Pairs
    batches: list[Batch]
    start: Path | None
    start_digest: str | None
    run: str
    out: Path

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps that see every pair once; the last may be smaller."""
        return math.ceil(len(self.batches) / self._batches_per_step)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.steps_per_epoch * self.settings.epochs

    @property
    def starts_at_reference(self) -> bool:
        """Whether policy and reference are the same model before the first step."""
        return self.start is None or self.settings.reference == "start"

    def batches_of(self, step: int) -> list[int]:
        """Indices of the micro-batches of a step (from 0); an epoch's order is the seed's alone."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = list(range(len(self.batches)))
        derive_rng("order", self.settings.seed, epoch).shuffle(order)
        n = self._batches_per_step
        return order[position * n : (position + 1) * n]

    @property
    def _batches_per_step(self) -> int:
        return self.settings.batch_size // self.settings.pairs_at_once


def make_plan(
    model: str | ModelSource,
    data: Any,
    settings: TrainSettings,
    *,
    out: Path,
    start: Path | None,
    heldout: Any,
    progress: Progress,
) -> Plan:
    """Check the inputs, resolve the model, tokenise every pair.

    Raises DataError for faulty or missing rows, ModelError and ConfigError as their parts do.
    """
    loss = losses.get(settings.loss)
    pick_device(settings.device)
    examples = read_examples(data)
    held = [] if heldout is None else read_examples(heldout)
    if not examples:
        raise DataError("there is nothing to train on: the data has no rows", hint="check the file")
    start_digest = None if start is None else adapter_digest(start)
    source = resolve_model(model, progress=progress) if isinstance(model, str) else model
    tokenizer = load_tokenizer(source)
    limit = _longest(source, settings.max_length)
    pairs, held_pairs = (
        encode_examples(
            tokenizer, part, max_length=limit, overlong=settings.overlong, soft=loss.soft
        )
        for part in (examples, held)
    )
    if not pairs.rows:
        counts = ", ".join(f"{n} {reason}" for reason, n in pairs.dropped.items())
        raise DataError(
            f"there is nothing to train on: all {len(examples)} rows were dropped ({counts})",
            hint="identical answers teach nothing; overlong pairs need a larger max_length",
        )
    return Plan(
        source=source,
        settings=settings,
        loss=loss,
        pairs=pairs,
        heldout=held_pairs,
        batches=micro_batches(pairs.rows, settings.pairs_at_once),
        start=start,
        start_digest=start_digest,
        run=_run_digest(source, start_digest, pairs, held_pairs, settings),
        out=out,
    )


def _run_digest(
    source: ModelSource,
    start_digest: str | None,
    pairs: Pairs,
    heldout: Pairs,
    settings: TrainSettings,
) -> str:
    return content_id(
        {
            "model": source.digest,
            "start": start_digest,
            "pairs": pairs.digest(),
            "heldout": heldout.digest(),
            # How often a checkpoint is written changes no result.
            "settings": settings.model_dump(mode="json", exclude={"checkpoint_every"}),
            "torch": torch.__version__,
        }
    )


def _longest(source: ModelSource, wanted: int) -> int:
    """``max_length``, or the model's own context where that is shorter."""
    limit = read_json(source.path / "config.json").get("max_position_embeddings")
    return min(wanted, limit) if isinstance(limit, int) else wanted
