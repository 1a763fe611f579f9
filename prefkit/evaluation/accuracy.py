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
from prefkit.policy.template import TokenRow, encode_row

ROWS_AT_ONCE = 16


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
    policy = load_policy(source, adapter=adapter, dtype=dtype)
    rows = [
        encode_row(policy.tokenizer, example.prompt, side, max_length=max_length)
        for example in ranked
        for side in (example.chosen, example.rejected)
    ]
    rewards = _log_ratios(policy, rows, has_adapter=adapter is not None, progress=progress)
    del policy
    release_memory()
    margins = [beta * (c - r) for c, r in zip(rewards[::2], rewards[1::2], strict=True)]
    outcomes = [0.5 if m == 0 else float(m > 0) for m in margins]
    return Accuracy(
        accuracy=fmean(outcomes),
        ci95=score_interval(outcomes),
        mean_margin=fmean(margins),
        n=len(ranked),
        n_skipped=len(examples) - len(ranked),
    )


def _log_ratios(
    policy: Policy, rows: Sequence[TokenRow], *, has_adapter: bool, progress: Progress
) -> list[float]:
    """log π − log π_ref of each row, in the order given; batches of like length."""
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index].ids))
    ratios = [0.0] * len(rows)
    if not has_adapter:
        return ratios
    progress("held-out accuracy", 0, len(rows))
    for start in range(0, len(order), ROWS_AT_ONCE):
        indices = order[start : start + ROWS_AT_ONCE]
        batch = [rows[index] for index in indices]
        for index, ratio in zip(indices, _batch_ratios(policy, batch), strict=True):
            ratios[index] = ratio
        progress("held-out accuracy", start + len(indices), len(rows))
    return ratios


def _batch_ratios(policy: Policy, batch: Sequence[TokenRow]) -> list[float]:
    import torch

    from prefkit.policy.logps import completion_logps

    model: Any = policy.model
    with torch.no_grad():
        new = completion_logps(model, batch, pad_id=policy.pad_id)
        with model.disable_adapter():
            reference = completion_logps(model, batch, pad_id=policy.pad_id)
    return (new - reference).tolist()
