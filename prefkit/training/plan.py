"""Everything a training run is made of, settled before any weight is loaded.

The run's digest covers model, starting adapter, reference, tokens, labels, settings and torch: the
same digest means the same result, so a finished run is not done again and a killed one goes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import cycle
from pathlib import Path
from typing import Any

import torch

from prefkit.core.errors import ConfigError, DataError
from prefkit.core.files import read_json
from prefkit.core.ids import content_id
from prefkit.core.progress import Progress
from prefkit.core.records import TrainRow
from prefkit.core.rng import derive_rng
from prefkit.policy.load import Policy, adapter_digest, load_tokenizer, pick_device, pick_dtype
from prefkit.policy.logp_store import LogpStore
from prefkit.policy.parts import is_reward_model
from prefkit.policy.resolve import ModelSource, resolve_model
from prefkit.policy.trees import Branch, Tree
from prefkit.training.constraints import constraint_digest
from prefkit.training.lineage import data_facts
from prefkit.training.methods import METHODS
from prefkit.training.objective import Constraint, Objective, make_objective
from prefkit.training.reference import ReferenceModel, find_reference
from prefkit.training.rows import Row, Rows, encode_rows, read_rows
from prefkit.training.settings import TrainSettings
from prefkit.training.split import split_by_prompt
from prefkit.training.trackers import check_trackers

# How the run is watched and stored changes no result.
WITHOUT_EFFECT = {"checkpoint_every", "log_every", "trackers", "reference_store", "n_samples"}


@dataclass(frozen=True, slots=True)
class Plan:
    """The inputs of a run, checked."""

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
    run: str
    out: Path

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
    objective = make_objective(settings, constraints)
    pick_device(settings.device)
    check_trackers(settings.trackers)
    training, dropped, held, held_dropped = _read(data, heldout, settings, objective, mapping)
    start_digest = None if start is None else adapter_digest(start)
    loaded = model if isinstance(model, Policy) else None
    if loaded is not None:
        _check_kind(loaded, objective)
    if isinstance(model, str):
        source = resolve_model(model, progress=progress)
    else:
        source = model.source if isinstance(model, Policy) else model
    tokenizer = loaded.tokenizer if loaded else load_tokenizer(source)
    limit = _longest(source, loaded, settings)
    rows = _encoded(tokenizer, training, objective, settings, limit, dropped)
    held_rows = _encoded(tokenizer, held, objective, settings, limit, held_dropped)
    if not rows.rows:
        counts = ", ".join(f"{n} {reason}" for reason, n in rows.dropped.items())
        raise DataError(
            f"there is nothing to train on: all {len(training)} rows were dropped ({counts})",
            hint="identical answers teach nothing; overlong rows need a larger max_length",
        )
    if settings.evaluate_every and not held_rows.rows:
        counts = (
            ", ".join(f"{n} {reason}" for reason, n in held_rows.dropped.items()) or "none given"
        )
        raise ConfigError(
            f"evaluate_every needs held-out rows and there are none ({counts})",
            hint="give --heldout FILE or set heldout_share, 0.1 say",
        )
    reference = None
    if objective.needs_reference:
        reference = find_reference(settings.reference, source, start, tokenizer, progress=progress)
    plan = Plan(
        source=source,
        settings=settings,
        objective=objective,
        rows=rows,
        heldout=held_rows,
        start=start,
        start_digest=start_digest,
        reference=reference,
        data_facts={
            **data_facts(training),
            "digest": rows.digest(),
            "dropped": rows.dropped,
            "n_truncated": rows.n_truncated,
        },
        loaded=loaded,
        run="",
        out=out,
    )
    return replace(plan, run=_run_digest(plan))


def _read(
    data: Any,
    heldout: Any,
    settings: TrainSettings,
    objective: Objective,
    mapping: Mapping[str, str] | None,
) -> tuple[Sequence[TrainRow], Mapping[str, int], Sequence[TrainRow], Mapping[str, int]]:
    """The rows to train on and those held out, each with what reading dropped."""
    read = read_rows(data, objective.target, mapping=mapping)
    if not read.rows:
        counts = ", ".join(f"{n} {reason}" for reason, n in read.dropped.items()) or "it is empty"
        raise DataError(
            f"there is nothing to train on: the data has no rows ({counts})", hint="check the file"
        )
    if heldout is not None:
        read_held = read_rows(heldout, objective.target, mapping=mapping)
        return read.rows, read.dropped, read_held.rows, read_held.dropped
    training, held = split_by_prompt(read.rows, settings.heldout_share, settings.seed)
    return training, read.dropped, held, {}


def _check_kind(loaded: Policy, objective: Objective) -> None:
    if is_reward_model(loaded.model) != objective.rewards:
        raise ConfigError(
            f"loss {objective.terms[0].loss.name}: takes a "
            f"{'reward' if objective.rewards else 'language'} model, and the one in memory is a "
            f"{type(loaded.model).__name__}",
            hint="give the model's name or folder instead, or one of the other kind",
        )


def _encoded(
    tokenizer: Any,
    rows: Sequence[TrainRow],
    objective: Objective,
    settings: TrainSettings,
    limit: int,
    dropped: Mapping[str, int],
) -> Rows:
    hard = [term.loss for term in objective.terms if term.loss.hard]
    if hard and settings.labels == "soft":
        soft = next((row for row in rows if 0 < row.p < 1), None)
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
        return with_mismatches(encoded, limit)
    return encoded


def with_mismatches(rows: Rows, limit: int) -> Rows:
    """Every row with an answer to another prompt as second branch, cut to ``limit`` tokens with its
    own prompt: what KTO estimates its z0 from (arXiv 2402.01306, section 4.1).

    The answers to a prompt are lent to the next one. Who lends to whom depends on the rows alone,
    so the reference log-probs can be kept.
    """
    answers: dict[bytes, list[int]] = {}
    for i in sorted(range(len(rows.rows)), key=lambda i: rows.rows[i].id):
        answers.setdefault(rows.rows[i].tree.prompt.tobytes(), []).append(i)
    if len(answers) == 1:
        raise DataError(
            "one prompt is not enough: the loss compares each answer with one to another prompt",
            hint="give rows of at least two prompts, or choose a paired loss",
        )
    prompts = sorted(answers)
    mixed = list(rows.rows)
    for prompt, before in zip(prompts, [prompts[-1], *prompts[:-1]], strict=True):
        for i, lender in zip(answers[prompt], cycle(answers[before]), strict=False):
            lent = rows.rows[lender].tree.branches[0]
            mixed[i] = replace(mixed[i], tree=_lend(mixed[i].tree, lent, limit))
    return replace(rows, rows=tuple(mixed))


def _lend(tree: Tree, answer: Branch, limit: int) -> Tree:
    room = max(1, limit - len(tree.prompt))
    cut = Branch(answer.ids[:room], answer.scored[:room])
    return Tree(tree.prompt, (tree.branches[0], cut))


def _run_digest(plan: Plan) -> str:
    settings = plan.settings.model_dump(mode="json", exclude=WITHOUT_EFFECT)
    return content_id(
        {
            "model": plan.source.digest,
            "start": plan.start_digest,
            "reference": plan.reference.digest if plan.reference else None,
            "rows": plan.rows.digest(),
            "heldout": plan.heldout.digest(),
            "settings": settings,
            "constraints": [constraint_digest(c) for c in plan.objective.constraints],
            "sources": _sources(plan) if plan.objective.constraints else None,
            "torch": torch.__version__,
        }
    )


def _sources(plan: Plan) -> list[object]:
    """What a constraint can read of the rows that their tokens do not say."""
    rows = [row.source for row in (*plan.rows.rows, *plan.heldout.rows)]
    return [[dict(row.prompt.tags), row.prompt.source, row.evidence, row.votes] for row in rows]


def _longest(source: ModelSource, loaded: Policy | None, settings: TrainSettings) -> int:
    """``max_length``, or what the model's own context leaves where that is shorter."""
    config = loaded.model.config.to_dict() if loaded else read_json(source.path / "config.json")
    config |= config.get("text_config") or {}
    # GPT-2 has its own name for it.
    limit = config.get("max_position_embeddings", config.get("n_positions"))
    if not isinstance(limit, int):
        return settings.max_length
    virtual = METHODS[settings.method].kind == "virtual"
    return min(settings.max_length, limit - (settings.n_virtual_tokens if virtual else 0))
