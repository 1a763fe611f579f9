"""A cache of virtual tokens that layers read and never write: one set serves every row and pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from prefkit.policy.virtual import KeysValues


class _ReadOnlyLayer(DynamicLayer):
    """Puts the virtual keys and values before those of a row and keeps none of the row's."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values, self.is_initialized = keys, values, True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of virtual tokens and row together: (B, heads, n_virtual + T, size)."""
        assert self.keys is not None
        assert self.values is not None
        rows = len(key_states)
        keys = self.keys.to(key_states.dtype).expand(rows, -1, -1, -1)
        values = self.values.to(value_states.dtype).expand(rows, -1, -1, -1)
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)


def read_only_cache(causal: Any, virtual: KeysValues) -> Cache:
    """What a transformers model takes as past_key_values.

    Layers under activation checkpointing may read it too: transformers withholds a cache from
    them because an ordinary one would grow again when a layer is recomputed.
    """
    for module in causal.modules():
        if getattr(module, "_can_checkpoint_with_cache", None) is False:
            module._can_checkpoint_with_cache = True
    return Cache(layers=[_ReadOnlyLayer(keys, values) for keys, values in virtual])
