"""Whether a model can share prompts and rows: read from its configuration, then tried.

Sharing needs every token's state to follow from what a mask lets it see and from its position.
Recurrent and linear attention carry a state through the whole row; ALiBi and some position
schemes take distances from the row, not from positions given; a sliding window that is shorter
than a path is cut by row, too. The configuration names those. A small tree, scored both ways,
finds whatever it does not name.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefkit.core.errors import ModelError
from prefkit.policy.logps import answer_states, tree_logps
from prefkit.policy.packing import Layout, plan_packs
from prefkit.policy.parts import causal_model, trunk
from prefkit.policy.trees import Branch, Tree

__all__ = ["Layout", "choose_layout", "plan_packs"]

# Layers that look at tokens through a mask, and nothing else.
MASKED_LAYERS = frozenset({"full_attention", "sliding_attention", "attention"})
MASKED_KERNELS = ("sdpa", "eager", "flex_attention")
# Largest mean difference of a log-prob between layouts that rounding explains. SmolLM2 differed by
# 3e-6 in fp32 and by 0.03 in bf16; there a wrong mask or wrong positions made it 0.18 to 0.84
# (2026-11-21).
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}


def choose_layout(model: Any, *, longest: int) -> Layout:
    """The layout for ``model`` and trees whose longest path has ``longest`` tokens.

    On CUDA a model that supports FlexAttention is switched to it. Raises ModelError for an
    encoder-decoder model, for rows that would stretch its rotary frequencies, and where the
    model's own log-probs are not those of its head as prefkit knows it.
    """
    causal = causal_model(model)
    if causal.config.is_encoder_decoder:
        raise ModelError(
            f"{causal.config.model_type}: an encoder-decoder model, not a causal one",
            hint="choose a decoder-only model",
        )
    limit = stretches_beyond(causal.config.get_text_config())
    if limit is not None and longest > limit:
        raise ModelError(
            f"{causal.config.model_type} turns its rotary frequencies by the longest row of a pass "
            f"beyond {limit} tokens, and the longest row has {longest}: what is scored together "
            "would change log-probs",
            hint=f"set max_length to {limit} or less",
        )
    trees = _probe_trees(causal.config.get_text_config().vocab_size, longest)
    training, attention = model.training, attention_of(causal)
    model.eval()
    try:
        with torch.no_grad():
            apart = _values(model, causal, trees, Layout("padded", "sdpa", ""))
            _check_head(model, causal, trees[-1], apart)
            reason = unshareable(causal, longest)
            if reason is None:
                layout = Layout("tree", _kernel(causal), "prompts are computed once")
                reason = _probe(model, causal, trees, apart, layout)
                if reason is None:
                    return layout
                if attention_of(causal) != attention:
                    causal.set_attn_implementation(attention)
    finally:
        model.train(training)
    return Layout("padded", "sdpa", f"a row an answer: {reason}")


def stretches_beyond(config: Any) -> int | None:
    """Tokens beyond which rotary frequencies depend on the longest row of a pass (transformers'
    rope types dynamic and longrope), None where they never do."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    limits = [
        kind.get("original_max_position_embeddings") or config.max_position_embeddings
        for kind in kinds
        if kind.get("rope_type") in ("dynamic", "longrope")
    ]
    return min(limits, default=None)


def unshareable(causal: Any, longest: int) -> str | None:
    """Why the configuration rules sharing out, None where it does not."""
    config = causal.config.get_text_config()
    name = config.model_type
    other = sorted(set(getattr(config, "layer_types", None) or ()) - MASKED_LAYERS)
    if other:
        return f"{name} has {other[0]} layers, which carry a state along the row"
    if getattr(causal, "_is_stateful", False):
        return f"{name} carries a state along the row"
    if _has_alibi(config):
        return f"{name} takes distances from the row (ALiBi)"
    if "mrope_section" in str(getattr(config, "rope_parameters", None)):
        return f"{name} has positions of several axes (mRoPE)"
    window = _window(config)
    if window is not None and longest > window:
        return f"{name} attends within {window} tokens and the longest row has {longest}"
    if "position_ids" not in inspect.signature(trunk(causal).forward).parameters:
        return f"{name} takes no positions"
    if causal.config._attn_implementation not in MASKED_KERNELS:
        return f"attention {causal.config._attn_implementation!r} takes no mask (sdpa does)"
    return None


def _has_alibi(config: Any) -> bool:
    inner = getattr(config, "attn_config", None)
    given = getattr(config, "alibi", False) or getattr(inner, "alibi", False)
    return bool(given) or config.model_type == "bloom"


def _window(config: Any) -> int | None:
    """The shortest sliding window of any layer."""
    if getattr(config, "use_sliding_window", True) is False:
        return None
    layers = getattr(config, "layer_types", None)
    if layers and "sliding_attention" not in layers:
        return None
    return getattr(config, "sliding_window", None)


def attention_of(causal: Any) -> dict[str, Any]:
    """The attention of each part of a model, as its ``set_attn_implementation`` takes it back."""
    parts = {name: getattr(causal.config, name, None) for name in causal.config.sub_configs}
    kept = {name: part._attn_implementation for name, part in parts.items() if part is not None}
    return {"": causal.config._attn_implementation, **kept}


def _kernel(causal: Any) -> Any:
    """ "flex" on CUDA where the model supports it (it is switched to it), else "sdpa"."""
    flexible = getattr(causal, "_supports_flex_attn", False)
    if next(causal.parameters()).is_cuda and flexible:
        causal.set_attn_implementation("flex_attention")
    return "flex" if causal.config._attn_implementation == "flex_attention" else "sdpa"


def _probe(
    model: Any, causal: Any, trees: Sequence[Tree], apart: Tensor, layout: Layout
) -> str | None:
    """Why small trees cannot be shared; None where they score as ``apart`` does."""
    name = causal.config.model_type
    try:
        together = _values(model, causal, trees, layout)
    except torch.OutOfMemoryError:
        raise  # a RuntimeError too, and no reason to feed more tokens
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError) as error:
        return f"{name} does not take a mask of its own ({error})"
    gap = float((apart - together).abs().mean())
    if gap <= _tolerance(causal):
        return None
    return f"sharing changed log-probs of {name} by {gap:.2g} nats on average in a test"


def _tolerance(causal: Any) -> float:
    return TOLERANCE[causal.get_input_embeddings().weight.dtype]


def _values(model: Any, causal: Any, trees: Sequence[Tree], layout: Layout) -> Tensor:
    """Log-probs, or for a model without a language-model head (rewards) its states."""
    if causal.get_output_embeddings() is not None:
        return tree_logps(model, trees, layout=layout).values
    states = answer_states(model, trees, layout=layout).float()
    return (states / states.abs().max()).flatten()


def _check_head(model: Any, causal: Any, tree: Tree, values: Tensor) -> None:
    """Compare the last tree's ``values`` with the logits that the model itself returns."""
    if causal.get_output_embeddings() is None:
        return
    answer = tree.branches[0].ids
    ids = torch.from_numpy(np.concatenate([tree.prompt, answer]).astype(np.int64))
    given = model(input_ids=ids[None].to(values.device), use_cache=False)
    logits = given.logits[0, -1 - len(answer) : -1]
    own = logits.float().log_softmax(-1).gather(1, ids[-len(answer) :, None].to(values.device))
    gap = float((own.squeeze(1) - values[-len(answer) :]).abs().mean())
    # Half precision rounds the model's own logits once more.
    if gap > max(5 * _tolerance(causal), 1e-3):
        raise ModelError(
            f"{causal.config.model_type}: a log-prob from its head differs by {gap:.2g} from the "
            "model's own: it does something to its logits that prefkit does not know",
            hint="report the model type as an issue; choose another model until then",
        )


def _probe_trees(vocabulary: int, longest: int) -> list[Tree]:
    """Two small trees with no path longer than ``longest``, which a window may depend on."""
    draw = np.random.default_rng(0)
    prompt = max(1, min(8, longest // 3))
    answer = max(1, min(20, longest - prompt))

    def ids(n: int) -> np.ndarray:
        return draw.integers(0, vocabulary, n).astype(np.int32)

    def branch(n: int) -> Branch:
        return Branch(ids(n), np.ones(n, np.bool_))

    shorter = (branch(answer), branch((answer + 1) // 2))
    return [Tree(ids(prompt), shorter), Tree(ids(prompt), (branch((answer + 2) // 3),))]
