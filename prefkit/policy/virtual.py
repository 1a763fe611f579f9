"""Virtual tokens of prefix and prompt tuning, as what both are: keys and values of every layer.

A causal model's virtual tokens see nothing of the text behind them, so their keys and values are
computed once and serve any row: the text follows with positions that go on after them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

KeysValues = list[tuple[Tensor, Tensor]]


def has_virtual_tokens(model: Any) -> bool:
    """Whether ``model`` is a peft model of prefix or prompt tuning, and not switched off."""
    if not hasattr(model, "peft_config"):
        return False
    active = model.peft_config[model.active_adapter]
    return bool(active.is_prompt_learning) and model.has_active_enabled_adapter


def virtual_keys_values(model: Any) -> KeysValues:
    """Keys and values (1, kv heads, n virtual tokens, head size) of each layer; [] without any.

    Gradients reach the adapter where they are enabled. Positions 0 … n−1 are theirs.
    """
    if not has_virtual_tokens(model):
        return []
    given = model.get_prompt(batch_size=1)
    if isinstance(given, Tensor):
        base = model.get_base_model()
        embeddings = given.to(base.get_input_embeddings().weight.dtype)
        with _unchecked(base):
            given = base(inputs_embeds=embeddings, use_cache=True, logits_to_keep=1).past_key_values
    return [(layer.keys, layer.values) for layer in given.layers]


@contextmanager
def _unchecked(model: Any) -> Iterator[None]:
    """No activation checkpointing inside: transformers keeps no cache under it."""
    checkpointed = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
    for module in checkpointed:
        module.gradient_checkpointing = False
    try:
        yield
    finally:
        for module in checkpointed:
            module.gradient_checkpointing = True


@torch.no_grad()
def keys_values_of(model: Any, ids: Tensor) -> KeysValues:
    """Keys and values (1, kv heads, T, head size) of each layer of a plain model for ids (1, T)."""
    cache = model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
    return [(layer.keys, layer.values) for layer in cache.layers]
