"""The model as the loop calls it: trees in, log-probs (or rewards) out, as one torch module.

A module, because a wrapper that shards parameters (FSDP2) has to see one forward call from the
embeddings to the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from prefkit.policy.layout import Layout
from prefkit.policy.logps import TokenLogps, tree_logps
from prefkit.policy.rewards import answer_rewards
from prefkit.policy.trees import Tree


class Scorer(nn.Module):
    """A language model, or with ``rewards`` a reward model, over packs of trees."""

    def __init__(self, model: Any, layout: Layout, *, rewards: bool = False) -> None:
        super().__init__()
        self.model = model
        self.layout = layout
        self.rewards = rewards

    def forward(self, trees: Sequence[Tree], *, statistics: bool = False) -> TokenLogps:
        """Log-probs of every scored token; a reward model's rewards, one a branch.

        Rewards come as the ``values`` of a TokenLogps whose every answer has one entry.
        """
        if not self.rewards:
            return tree_logps(self.model, trees, layout=self.layout, statistics=statistics)
        # Copied, because FSDP2 wants no view of another tensor for its hook.
        values = answer_rewards(self.model, trees, layout=self.layout).clone()
        answer = torch.arange(len(values), device=values.device)
        return TokenLogps(values, answer, len(values), None, None)


def silence_dropout(model: Any) -> None:
    """Switch off the dropout that a base model brings, in training mode too.

    With it policy and reference would differ at the start, and a step would depend on its packs.
    An adapter made afterwards keeps its own.
    """
    for module, name, _ in dropouts(model):
        setattr(module, name, 0.0)


def dropouts(model: Any) -> list[tuple[nn.Module, str, float]]:
    """Every rate of dropout in the model: module, attribute, value.

    nn.Dropout's, and the numbers that transformers' layers hand to a kernel themselves
    (attention_dropout, dropout, activation_dropout, resid_pdrop, layerdrop, …).
    """
    return [
        (module, name, value)
        for module in model.modules()
        for name, value in list(vars(module).items())
        if isinstance(value, float)
        and ("drop" in name or (name == "p" and isinstance(module, nn.Dropout)))
    ]


def checkpoint_activations(model: Any) -> None:
    """Let the backward pass compute activations again instead of keeping them."""
    model.gradient_checkpointing_enable({"use_reentrant": False})
