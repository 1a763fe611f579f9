"""Reward accuracy: does the policy's implicit reward rank held-out pairs as their labels do?

The implicit reward of an answer is β Δ with Δ = log π(answer) − log π_ref(answer), summed over the
answer's tokens (arXiv 2305.18290, eq. 5 without its term that depends on the prompt alone). π and
π_ref are one model in memory, with its adapter on and off, so both sides run the same kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from prefkit.core.errors import DataError
from prefkit.core.progress import Progress, silent
from prefkit.core.records import Example
from prefkit.evaluation.interval import score_interval
from prefkit.policy.load import Policy, load_policy, release_memory
from prefkit.policy.resolve import ModelSource
from prefkit.policy.template import Exchange, encode_trees, truncate
from prefkit.policy.trees import Tree


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The share of pairs whose chosen answer has the higher implicit reward; equal counts ½.

    mean_margin: β(Δ_chosen − Δ_rejected), in nats. n = pairs measured; n_skipped = pairs whose
    label is even (p = 0.5) and so ranks nothing.
    """

    accuracy: float
    ci95: tuple[float, float]
    mean_margin: float
    n: int
    n_skipped: int


def reward_accuracy(
    source: ModelSource,
    adapter: Path | None,
    examples: Sequence[Example],
    *,
    beta: float,
    max_length: int | None = None,
    dtype: str = "auto",
    progress: Progress = silent,
) -> Accuracy:
    """How well the adapter's implicit reward agrees with the labels of ``examples``.

    Without an adapter policy and reference are the same and the accuracy is ½ by definition.
    max_length: tokens a row is cut to, None for no cut. dtype: as in load_policy. Raises
    DataError where no example has a label that ranks its two answers.
    """
    ranked = [example for example in examples if example.p > 0.5]
    if not ranked:
        raise DataError(
            f"none of the {len(examples)} pairs has a label that ranks its answers (p > 0.5)"
        )
    margins = [0.0] * len(ranked)
    if adapter is not None:
        policy = load_policy(source, adapter=adapter, dtype=dtype)
        ratios = log_ratios(policy, ranked, max_length=max_length, progress=progress)
        del policy
        release_memory()
        margins = [beta * (chosen - rejected) for chosen, rejected in ratios]
    outcomes = [0.5 if m == 0 else float(m > 0) for m in margins]
    return Accuracy(
        accuracy=fmean(outcomes),
        ci95=score_interval(outcomes),
        mean_margin=fmean(margins),
        n=len(ranked),
        n_skipped=len(examples) - len(ranked),
    )


def log_ratios(
    policy: Policy,
    examples: Sequence[Example],
    *,
    max_length: int | None = None,
    progress: Progress = silent,
) -> list[tuple[float, float]]:
    """log π − log π_ref of the chosen and the rejected answer of each example, in nats, in order.

    ``policy`` has an adapter; without it the model is the reference. max_length: both answers of
    an example lose their end beyond it; DataError where its prompt alone fills it.
    """
    # Imported here: they load torch.
    import torch

    from prefkit.policy.layout import choose_layout
    from prefkit.policy.logps import tree_logps
    from prefkit.policy.packing import plan_packs, size_of, tokens_at_once

    model: Any = policy.model
    trees = _trees(policy, examples, max_length)
    layout = choose_layout(model, longest=max(tree.longest for tree in trees))
    sizes = [size_of(tree, layout) for tree in trees]
    found: list[tuple[float, float]] = [(0.0, 0.0)] * len(trees)
    done = 0
    progress("held-out accuracy", done, len(trees))
    for pack in plan_packs(sizes, tokens_at_once(None, model.device, model.dtype, layout)):
        company = [trees[index] for index in pack]
        with torch.no_grad():
            new = tree_logps(model, company, layout=layout).sums()
            with model.disable_adapter():
                reference = tree_logps(model, company, layout=layout).sums()
        for index, (chosen, rejected) in zip(
            pack, (new - reference).view(-1, 2).tolist(), strict=True
        ):
            found[index] = (chosen, rejected)
        progress("held-out accuracy", done := done + len(pack), len(trees))
    return found


def _trees(policy: Policy, examples: Sequence[Example], max_length: int | None) -> list[Tree]:
    exchanges = [Exchange(e.prompt, (e.chosen, e.rejected)) for e in examples]
    trees: list[Tree] = []
    for example, whole in zip(examples, encode_trees(policy.tokenizer, exchanges), strict=True):
        if not isinstance(whole, Tree):
            raise whole
        tree = whole if max_length is None else truncate(whole, max_length, "answers")
        if tree is None:
            raise DataError(
                f"example {example.id}: its {len(whole.prompt)} prompt tokens fill max_length "
                f"{max_length}",
                hint="raise max_length",
            )
        trees.append(tree)
    return trees
