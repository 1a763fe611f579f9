"""The reference: which model it is, and its log-probs of every answer, scored once and kept.

base and start are the policy itself before training (adapter off, or the adapter it starts from),
so both sides go through the same kernels and the first sigmoid loss is ln 2. Another checkpoint is
loaded, scored and let go before the policy is loaded. An EMA adapter moves with every update: it
is scored inside the step and never kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from prefkit.core.errors import ConfigError, EnvironmentFault
from prefkit.core.progress import Progress
from prefkit.policy.layout import choose_layout, plan_packs
from prefkit.policy.load import (
    ADAPTER_CONFIG,
    load_policy,
    load_tokenizer,
    policy_digest,
    release_memory,
)
from prefkit.policy.logp_store import Floats, LogpStore, logp_keys, missing
from prefkit.policy.logps import TokenLogps, tree_logps
from prefkit.policy.resolve import ModelSource, resolve_model
from prefkit.policy.trees import Tree
from prefkit.training.fused_lora import fuse_lora
from prefkit.training.lanes import Lanes, lanes_for
from prefkit.training.packs import size_of, tokens_at_once
from prefkit.training.ranks import Ranks

if TYPE_CHECKING:
    from prefkit.training.plan import Plan

# Answers scored between two writes: what a kill costs at most.
ANSWERS_AT_ONCE = 256

Score = Callable[[Sequence[Tree]], TokenLogps]


@dataclass(frozen=True, slots=True)
class ReferenceModel:
    """Which model the policy is compared with. digest names its weights; None for ema."""

    kind: Literal["base", "start", "other", "ema"]
    source: ModelSource
    adapter: Path | None
    digest: str | None

    def describe(self) -> str:
        """As the run prints it."""
        if self.digest is None:
            return "ema: a moving average of the adapter, scored in every step"
        over = f" with adapter {self.adapter}" if self.adapter else ""
        return f"{self.kind}: {self.source.spec}{over}, digest {self.digest}"


def find_reference(
    wanted: str,
    source: ModelSource,
    start: Path | None,
    tokenizer: Any,
    *,
    progress: Progress,
) -> ReferenceModel:
    """The reference that ``wanted`` names: base, start, ema, an adapter folder or a model.

    Raises ConfigError where another model's tokens are not the policy's, ModelError as
    resolve_model does.
    """
    if wanted == "ema":
        return ReferenceModel("ema", source, None, None)
    if wanted == "base":
        return ReferenceModel("base", source, None, source.digest)
    if wanted == "start":
        return ReferenceModel("start", source, start, policy_digest(source, start))
    path = Path(wanted).expanduser()
    if (path / ADAPTER_CONFIG).is_file():
        return ReferenceModel("other", source, path, policy_digest(source, path))
    other = resolve_model(wanted, progress=progress)
    theirs = load_tokenizer(other).get_vocab()
    ours = tokenizer.get_vocab()
    if theirs != ours:
        unlike = sum(theirs.get(token) != index for token, index in ours.items())
        raise ConfigError(
            f"reference {wanted}: its tokenizer is not the model's ({unlike} of {len(ours)} tokens "
            "have another id or none), so log-probs cannot be compared",
            hint="use a checkpoint of the same model family",
        )
    return ReferenceModel("other", other, None, other.digest)


def score_missing(
    trees: Sequence[Tree],
    score: Score,
    store: LogpStore | None,
    packs: Callable[[Sequence[Tree]], list[list[int]]],
    ranks: Ranks,
    lanes: Lanes,
    *,
    progress: Progress,
) -> dict[bytes, Floats]:
    """The reference log-probs of all ``trees`` by key; what the store lacks is scored and kept.

    packs: which of the given trees go through the model together. Each rank scores its part and
    takes the others' from what is exchanged at the end.
    """
    known = {} if store is None else _found(trees, store)
    # What any rank lacks: all have to go through the same passes, and none may add to the store
    # before all have read it.
    lacking = set().union(*ranks.gather(missing(trees, known)))
    todo = [trees[index] for index in sorted(lacking)]
    if not todo:
        return known
    groups = packs(todo)
    # Every rank runs as many passes as the others where sharded layers wait for all of them.
    turns = range(ranks.rank, -(-len(groups) // ranks.world) * ranks.world, ranks.world)
    mine = [min(i, len(groups) - 1) for i in turns if i < len(groups) or ranks.sharded]
    fresh: dict[bytes, Floats] = {}
    unsaved: dict[bytes, Floats] = {}

    def found(index: int) -> Mapping[bytes, Floats]:
        # Sharded layers need every rank to run as many passes: none may halve its pack alone.
        return _scored([todo[i] for i in groups[index]], score, whole=ranks.sharded)

    for done, (_, values) in enumerate(lanes.map(found, mine), start=1):
        unsaved.update(values)
        if store is not None and len(unsaved) >= ANSWERS_AT_ONCE:
            store.add(unsaved)
            fresh.update(unsaved)
            unsaved = {}
        progress("scoring the reference", min(done * ranks.world, len(groups)), len(groups))
    if store is not None:
        store.add(unsaved)
    fresh.update(unsaved)
    for part in ranks.gather(fresh):
        known.update(part)
    return known


def _scored(trees: Sequence[Tree], score: Score, *, whole: bool) -> dict[bytes, Floats]:
    """Log-probs of ``trees`` by key; where memory runs out, of one half after the other, unless
    they have to stay ``whole``. EnvironmentFault where there is nothing left to halve."""
    try:
        return dict(split_by_key(trees, score(trees)))
    except torch.OutOfMemoryError:
        if whole or len(trees) == 1:
            raise EnvironmentFault(
                f"scoring the reference: not enough memory for {sum(t.n_tokens for t in trees)} "
                "tokens at once",
                hint="lower max_length or tokens_at_once, or choose a smaller model",
            ) from None
    torch.cuda.empty_cache()  # by now no traceback holds the pack's tensors
    half = len(trees) // 2
    parts = (trees[:half], trees[half:])
    return {k: v for part in parts for k, v in _scored(part, score, whole=False).items()}


def _found(trees: Sequence[Tree], store: LogpStore) -> dict[bytes, Floats]:
    """What the store has of ``trees``; what is not finite is scored again."""
    known = store.find(key for tree in trees for key in logp_keys(tree))
    return {key: values for key, values in known.items() if np.isfinite(values).all()}


def split_by_key(trees: Sequence[Tree], tokens: TokenLogps) -> Mapping[bytes, Floats]:
    """Log-probs by key: one copy from the device for the whole pack."""
    values = tokens.values.detach().cpu().numpy()
    keys = [key for tree in trees for key in logp_keys(tree)]
    counts = [branch.n_scored for tree in trees for branch in tree.branches]
    ends = np.cumsum(counts)
    return {
        key: values[end - n : end].copy() for key, n, end in zip(keys, counts, ends, strict=True)
    }


def score_other(plan: Plan, ranks: Ranks, progress: Progress) -> dict[bytes, Floats] | None:
    """The log-probs of a reference that is another checkpoint, None for the other kinds.

    It is in memory only here, and not at all where the store knows everything.
    """
    reference = plan.reference
    if reference is None or reference.kind != "other":
        return None
    store = plan.store()
    if store is not None:
        known = _found(plan.trees, store)
        if not any(ranks.gather(bool(missing(plan.trees, known)))):
            return known
    settings = plan.settings
    model = load_policy(
        reference.source, adapter=reference.adapter, dtype=settings.dtype, device=settings.device
    ).model
    fuse_lora(model)  # the kernel of every other log-prob in the store
    layout = choose_layout(model, longest=plan.longest)
    lanes = lanes_for(plan, model, ranks)
    budget = tokens_at_once(settings.tokens_at_once, model.device, model.dtype, layout) // lanes.n

    def score(group: Sequence[Tree], model: Any = model) -> TokenLogps:
        with torch.no_grad():
            return tree_logps(model, group, layout=layout)

    def packs(todo: Sequence[Tree]) -> list[list[int]]:
        return plan_packs([size_of(tree, layout) for tree in todo], budget)

    found = score_missing(plan.trees, score, store, packs, ranks, lanes, progress=progress)
    del model, score
    release_memory()
    return found
