"""How far a step goes: the learning rate's schedule, the optimiser, the clipping of gradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from prefkit.training.masters import Masters
from prefkit.training.ranks import Ranks
from prefkit.training.settings import TrainSettings


def learning_rate(settings: TrainSettings, step: int, total: int) -> float:
    """The rate of step ``step`` (from 0): linear warm-up, then the schedule down to zero.

    The last step's rate is above zero: it is the one after it that would have none.
    """
    warm = math.ceil(settings.warmup * total)
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    part = (step - warm) / max(1, total - warm)
    match settings.schedule:
        case "linear":
            return settings.learning_rate * (1 - part)
        case "cosine":
            return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * part))
        case "constant":
            return settings.learning_rate


def make_optimizer(settings: TrainSettings, masters: Masters) -> torch.optim.Optimizer:
    """AdamW or SGD over the masters, in their fused form: one kernel, and no step where the
    gradient is not finite. Matrices decay; norms and biases do not."""
    values = list(masters.values.values())
    matrices = [value for value in values if value.ndim > 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": [value for value in values if value.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, fused=True)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def clip_(gradients: list[Tensor], most: float, ranks: Ranks) -> Tensor:
    """Scale the gradients in place to a joint norm of at most ``most``; the norm before, ()."""
    squares = torch.stack([g.square().sum() for g in gradients]).sum()[None]
    if ranks.sharded:
        ranks.sum_([squares])
    norm = squares.sqrt()[0]
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor)
    return norm
