"""Everything a training run is made of, settled before any weight is loaded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from prefkit.core.errors import ConfigError, DataError
from prefkit.core.files import read_json
from prefkit.core.progress import Progress
from prefkit.core.records import TrainRow
from prefkit.core.rng import derive_rng
from prefkit.policy.adapter_base import check_base
from prefkit.policy.context import context_of
from prefkit.policy.load import (
    Policy,
    adapter_digest,
    load_tokenizer,
    model_outline,
    pick_device,
    pick_dtype,
)
from prefkit.policy.logp_store import LogpStore
from prefkit.policy.parts import is_reward_model
from prefkit.policy.resolve import ModelSource, resolve_model
from prefkit.policy.trees import Tree
from prefkit.training.adapter import check_new
from prefkit.training.conversion import Target
from prefkit.training.identity import Identity, identify
from prefkit.training.lineage import data_facts
from prefkit.training.methods import METHODS
from prefkit.training.mismatch import with_mismatches
from prefkit.training.objective import Constraint, Objective, make_objective
from prefkit.training.reference import ReferenceModel, find_reference
from prefkit.training.rows import Row, Rows, encode_rows, read_rows
from prefkit.training.settings import TrainSettings
from prefkit.training.split import split_by_prompt
from prefkit.training.start import going_on
from prefkit.training.trackers import check_trackers


@dataclass(frozen=True, slots=True)
class Plan:
    """The inputs of a run, checked.

    n_flipped: pairs whose sides reading swapped, because p < 0.5. left_out: reason → answers that
    are not trained on though their row is. n_shared_prompts: held-out prompts that are trained on.
    n_without_p: rows that have no p where others of their file have one.
    """

    source: ModelSource
    settings: TrainSettings
    objective: Objective
    rows: Rows
    heldout: Rows
    start: Path | None
    start_digest: str | None
    reference: ReferenceModel | None
    data_facts: dict[str, Any]
    loaded: Policy | None
    identity: Identity
    out: Path
    n_flipped: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    n_shared_prompts: int = 0
    n_without_p: int = 0

    @property
    def run(self) -> str:
        """The run's digest."""
        return self.identity.run

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps that see every row once; the last may be smaller."""
        return math.ceil(len(self.rows.rows) / self.settings.batch_size)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        steps = self.steps_per_epoch * self.settings.epochs
        return min(steps, self.settings.max_steps or steps)

    @property
    def trees(self) -> list[Tree]:
        """All that is scored: rows to train on, as the first epoch takes them, then those held
        out."""
        first = [row for step in range(self.steps_per_epoch) for row in self.rows_of(step)]
        return [row.tree for row in (*first, *self.heldout.rows)]

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt and answer together."""
        return max(tree.longest for tree in self.trees)

    def store(self) -> LogpStore | None:
        """Where the reference's log-probs are kept; None if they are not."""
        wanted, reference = self.settings.reference_store, self.reference
        if wanted == "none" or reference is None or reference.digest is None:
            return None
        root = None if wanted == "auto" else Path(wanted).expanduser()
        dtype = str(pick_dtype(self.settings.dtype)).removeprefix("torch.")
        # The policy's own 4-bit weights say something else than those they were made from.
        if self.settings.method == "qlora" and reference.kind in ("base", "start"):
            dtype = f"nf4 {dtype}"
        return LogpStore.of(reference.digest, dtype, root=root)

    @property
    def starts_at_reference(self) -> bool:
        """Whether policy and reference are the same model before the first step."""
        if self.reference is None:
            return False
        kind = self.reference.kind
        if self.start is None and not METHODS[self.settings.method].starts_at_base:
            return kind == "ema"
        return kind in ("start", "ema") or (kind == "base" and self.start is None)

    @property
    def first_loss(self) -> float | None:
        """What the loss of the first step has to be; None where nothing says."""
        return math.log(2) if self.objective.starts_at_ln2 and self.starts_at_reference else None

    def rows_of(self, step: int) -> list[Row]:
        """The rows of an optimiser step (from 0); an epoch's order is the seed's alone."""
        epoch, position = divmod(step, self.steps_per_epoch)
        shuffled = self.settings.order == "shuffled"
        order = _order(len(self.rows.rows), self.settings.seed, epoch if shuffled else None)
        n = self.settings.batch_size
        return [self.rows.rows[i] for i in order[position * n : (position + 1) * n]]


@lru_cache(maxsize=2)
def _order(n: int, seed: int, epoch: int | None) -> tuple[int, ...]:
    """The order of rows in an epoch; as given for None. Kept: every step of the epoch asks."""
    order = list(range(n))
    if epoch is not None:
        derive_rng("order", seed, epoch).shuffle(order)
    return tuple(order)


def make_plan(
    model: str | ModelSource | Policy,
    data: Any,
    settings: TrainSettings,
    *,
    out: Path,
    start: Path | None,
    heldout: Any,
    constraints: Sequence[Constraint],
    mapping: Mapping[str, str] | None,
    progress: Progress,
) -> Plan:
    """Check the inputs, resolve the model and the reference, tokenise every row.

    Raises DataError for faulty or missing rows, ModelError and ConfigError as their parts do.
    """
    if settings.reference == "start" and start is None:
        raise ConfigError(
            "reference start is the adapter that training starts from, and none was given",
            hint="give --adapter DIR (start_adapter in Python), or reference=base",
        )
    asked = make_objective(settings, constraints)
    pick_device(settings.device)
    check_trackers(settings.trackers)
    given = _read(data, heldout, settings, asked, mapping)
    objective = asked.taking(given.target)
    start_digest = None if start is None else adapter_digest(start)
    if start is not None:
        settings = going_on(settings, start)
    loaded = model if isinstance(model, Policy) else None
    if loaded is not None:
        _check_kind(loaded, objective)
    source = _source(model, progress)
    if start is not None:
        check_base(source, start)
    if start is None:
        _check_adapter(source, loaded, settings, objective)
    tokenizer = loaded.tokenizer if loaded else load_tokenizer(source)
    limit = _longest(source, loaded, settings)
    rows = _encoded(tokenizer, given.training, objective, settings, limit, given.dropped)
    held = _encoded(
        tokenizer, given.held, objective, settings, limit, given.held_dropped, lenders=rows.rows
    )
    _check_rows(rows, held, settings, split=heldout is None)
    reference = None
    if objective.needs_reference:
        reference = find_reference(settings.reference, source, start, tokenizer, progress=progress)
    plan = Plan(
        source=source,
        settings=settings,
        objective=objective,
        rows=rows,
        heldout=held,
        start=start,
        start_digest=start_digest,
        reference=reference,
        data_facts={
            **data_facts([row.source for row in rows.rows]),
            "digest": rows.digest(),
            "dropped": rows.dropped,
            "n_truncated": rows.n_truncated,
        },
        loaded=loaded,
        identity=Identity("", {}),
        out=out,
        n_flipped=given.n_flipped,
        left_out=Counter(given.left_out) + Counter(rows.left_out) + Counter(held.left_out),
        n_shared_prompts=len(_prompts(rows) & _prompts(held)),
        n_without_p=given.n_without_p,
    )
    return replace(plan, identity=identify(plan))


@dataclass(frozen=True, slots=True)
class _Given:
    """What was read. dropped, held_dropped, left_out: reason → what reading itself left out."""

    target: Target
    training: Sequence[TrainRow]
    held: Sequence[TrainRow]
    dropped: Mapping[str, int]
    held_dropped: Mapping[str, int]
    left_out: Mapping[str, int]
    n_flipped: int
    n_without_p: int


def _read(
    data: Any,
    heldout: Any,
    settings: TrainSettings,
    objective: Objective,
    mapping: Mapping[str, str] | None,
) -> _Given:
    """The rows to train on and those held out, as one of the kinds that the objective takes."""
    arguments = settings.chat_template_kwargs
    read = read_rows(data, objective.targets, mapping=mapping, arguments=arguments)
    target = read.target or objective.target
    if not read.rows:
        counts = ", ".join(f"{n} {reason}" for reason, n in read.dropped.items()) or "it is empty"
        raise DataError(
            f"there is nothing to train on: the data has no rows ({counts})", hint="check the file"
        )
    if heldout is not None:
        apart = read_rows(heldout, target, mapping=mapping, arguments=arguments)
        training, held, held_dropped = read.rows, apart.rows, apart.dropped
        files = (read.read, apart.read)
    else:
        training, held = split_by_prompt(read.rows, settings.heldout_share, settings.seed)
        held_dropped, files = {}, (read.read,)
    return _Given(
        target,
        training,
        held,
        read.dropped,
        held_dropped,
        Counter(tied=sum(file.n_tied for file in files)),
        sum(file.n_flipped for file in files),
        sum(file.n_without_p for file in files),
    )


def _check_rows(rows: Rows, held: Rows, settings: TrainSettings, *, split: bool) -> None:
    """Refuse a run without rows to train on, or without those it asks to be measured on."""
    if not rows.rows:
        raise DataError(
            f"there is nothing to train on: all {sum(rows.dropped.values())} rows were dropped "
            f"({_counts(rows)})",
            hint="identical answers teach nothing; overlong rows need a larger max_length",
        )
    wanted = [name for name in ("evaluate_every", "n_samples") if getattr(settings, name)]
    if wanted and not held.rows:
        lone = split and settings.heldout_share and not held.dropped
        why = "all rows are on one prompt" if lone else _counts(held) or "none given"
        raise ConfigError(
            f"{wanted[0]} needs held-out rows and there are none ({why})",
            hint="give --heldout FILE"
            if lone
            else "give --heldout FILE or set heldout_share, 0.1 say",
        )


def _counts(rows: Rows) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in rows.dropped.items())


def _prompts(rows: Rows) -> set[str]:
    return {row.source.prompt.id for row in rows.rows}


def _source(model: str | ModelSource | Policy, progress: Progress) -> ModelSource:
    if isinstance(model, str):
        return resolve_model(model, progress=progress)
    return model.source if isinstance(model, Policy) else model


def _check_kind(loaded: Policy, objective: Objective) -> None:
    if is_reward_model(loaded.model) != objective.rewards:
        raise ConfigError(
            f"loss {objective.terms[0].loss.name}: takes a "
            f"{'reward' if objective.rewards else 'language'} model, and the one in memory is a "
            f"{type(loaded.model).__name__}",
            hint="give the model's name or folder instead, or one of the other kind",
        )


def _check_adapter(
    source: ModelSource, loaded: Policy | None, settings: TrainSettings, objective: Objective
) -> None:
    """ConfigError for a new adapter that cannot be made."""
    model = loaded.model if loaded else model_outline(source, rewards=objective.rewards)
    if model is not None:
        check_new(model, settings)


def _encoded(
    tokenizer: Any,
    rows: Sequence[TrainRow],
    objective: Objective,
    settings: TrainSettings,
    limit: int,
    dropped: Mapping[str, int],
    lenders: Sequence[Row] = (),
) -> Rows:
    hard = [term.loss for term in objective.terms if term.loss.hard]
    if hard and settings.labels == "soft":
        soft = next((row for row in rows if row.weight and 0 < row.p < 1), None)
        if soft is not None:
            raise ConfigError(
                f"loss {hard[0].name} takes no soft label, and {soft.name} has p = {soft.p:g}: "
                f"{hard[0].hard}",
                hint="set labels=hard to take the likelier side as certain, or choose a loss "
                "with a soft form (docs/losses.md)",
            )
    encoded = encode_rows(
        tokenizer,
        rows,
        max_length=limit,
        overlong=settings.overlong,
        hard_labels=settings.labels == "hard",
        dropped=dropped,
    )
    if objective.needs_mismatch and encoded.rows:
        return with_mismatches(encoded, limit, lenders=lenders)
    return encoded


def _longest(source: ModelSource, loaded: Policy | None, settings: TrainSettings) -> int:
    """``max_length``, or what the model's own context leaves where that is shorter."""
    config = loaded.model.config.to_dict() if loaded else read_json(source.path / "config.json")
    limit = context_of(config)
    if limit is None:
        return settings.max_length
    virtual = METHODS[settings.method].kind == "virtual"
    return min(settings.max_length, limit - (settings.n_virtual_tokens if virtual else 0))
