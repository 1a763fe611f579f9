"""How likely a model finds answers: log-probabilities of their scored tokens, with gradient.

A pack of trees is one forward pass. In the "tree" layout it is one row that computes every prompt
once; in the "padded" layout, for models that cannot share a prompt, it is a row an answer. Only
hidden states that predict a scored token meet the head, which never holds all logits (head.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefkit.policy.head import head_logps
from prefkit.policy.masks import block_mask, dense_mask
from prefkit.policy.packing import Layout, Packed, pack_padded, pack_shared
from prefkit.policy.parts import causal_model, head_of, logit_finish, trunk
from prefkit.policy.trees import Tree
from prefkit.policy.virtual import virtual_keys_values
from prefkit.policy.virtual_cache import read_only_cache

# FlexAttention works on blocks of so many tokens; a row that fills its last one compiles once.
FLEX_BLOCK = 128


@dataclass(frozen=True, slots=True, eq=False)
class TokenLogps:
    """Log-probs of scored tokens, ordered by tree, branch and position, in nats.

    values (N,) fp32, or fp64 for an fp64 model, with gradient. answer (N,) long: the branch a
    token belongs to, counted through all trees. entropy, log_p2 (N,): −Σ p log p and log Σ p² of
    the predicted distribution, without gradient; None unless asked for.
    """

    values: Tensor
    answer: Tensor
    n_answers: int
    entropy: Tensor | None
    log_p2: Tensor | None

    def sums(self) -> Tensor:
        """(n_answers,): log p(answer | prompt) of each branch, 0 for one without scored tokens."""
        return self.values.new_zeros(self.n_answers).index_add(0, self.answer, self.values)


def tree_logps(
    model: Any, trees: Sequence[Tree], *, layout: Layout, statistics: bool = False
) -> TokenLogps:
    """Log-probs of every scored token of ``trees``, from one forward pass.

    Works on a plain and on a peft model, virtual tokens and adapters on the head included.
    Gradients flow to whatever requires them. Neither packing nor order nor layout change a value
    beyond rounding.
    """
    causal = causal_model(model)
    packed = _packed(trees, layout, whole=False)
    device = causal.get_input_embeddings().weight.device
    put = _put(packed, device)
    hidden = _states(model, causal, packed, put, layout).index_select(0, put.where)
    head = head_of(causal, hidden)
    scale, cap = logit_finish(causal.config)
    found = head_logps(
        hidden,
        head.weight,
        head.bias,
        put.targets,
        low_rank=head.low_rank,
        scale=scale,
        cap=cap,
        statistics=statistics,
    )
    return TokenLogps(found.values, put.answer, packed.n_answers, found.entropy, found.log_p2)


def answer_states(model: Any, trees: Sequence[Tree], *, layout: Layout) -> Tensor:
    """(n_answers, H): the last hidden state at the last token of each branch, scored or not.

    What a reward model's head reads. An empty branch gives the state of the prompt's last token.
    """
    causal = causal_model(model)
    packed = _packed(trees, layout, whole=True)
    put = _put(packed, causal.get_input_embeddings().weight.device)
    return _states(model, causal, packed, put, layout).index_select(0, put.last)


def _packed(trees: Sequence[Tree], layout: Layout, *, whole: bool) -> Packed:
    if layout.kind == "padded":
        return pack_padded(trees, whole=whole)
    return pack_shared(trees, whole=whole, multiple=FLEX_BLOCK if layout.kernel == "flex" else 1)


@dataclass(frozen=True, slots=True, eq=False)
class _Put:
    """The arrays of a pack on the device; see Packed."""

    ids: Tensor
    positions: Tensor
    tree: Tensor
    branch: Tensor
    where: Tensor
    targets: Tensor
    answer: Tensor
    last: Tensor


def _put(packed: Packed, device: torch.device) -> _Put:
    """One copy for all arrays: on a GPU each would be a launch of its own."""
    arrays = [getattr(packed, name) for name in _Put.__slots__]
    host = torch.from_numpy(np.concatenate([array.ravel() for array in arrays]))
    if device.type == "cuda":
        host = host.pin_memory()
    whole = host.to(device, non_blocking=True)
    parts = whole.split([array.size for array in arrays])
    return _Put(*[part.view(a.shape) for part, a in zip(parts, arrays, strict=True)])


def _states(model: Any, causal: Any, packed: Packed, put: _Put, layout: Layout) -> Tensor:
    """(B · T, H): the last hidden state of every token of the pack."""
    if packed.ids.size == 0:
        embeddings = causal.get_input_embeddings().weight
        return embeddings.new_zeros((0, causal.config.get_text_config().hidden_size))
    virtual = virtual_keys_values(model)
    inputs: dict[str, Any] = {}
    if virtual:
        inputs["past_key_values"] = read_only_cache(causal, virtual)
    if layout.kind == "tree":
        n_virtual = virtual[0][0].shape[-2] if virtual else 0
        inputs["position_ids"] = put.positions + n_virtual
        inputs["attention_mask"] = _mask(causal, packed, put, layout, n_virtual)
    out = trunk(causal)(input_ids=put.ids, use_cache=False, **inputs)
    return out.last_hidden_state.flatten(0, 1)


def _mask(causal: Any, packed: Packed, put: _Put, layout: Layout, n_virtual: int) -> Any:
    if layout.kernel == "flex":
        return block_mask(packed, put.tree[0], put.branch[0], n_virtual, FLEX_BLOCK)
    dtype = causal.get_input_embeddings().weight.dtype
    boolean = causal.config._attn_implementation == "sdpa"
    return dense_mask(put.tree[0], put.branch[0], n_virtual, None if boolean else dtype)
