"""The parts of a causal language model: its trunk, its head, and what becomes of its logits.

The one place that knows how transformers and peft name them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prefkit.core.errors import ModelError


def causal_model(model: Any) -> Any:
    """The transformers model inside a peft model, or ``model`` itself."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def trunk(causal: Any) -> Any:
    """The model without its head: token ids in, hidden states out."""
    return getattr(causal, causal.base_model_prefix)


@dataclass(frozen=True, slots=True)
class Head:
    """weight (V, H), bias (V,) or None, low_rank (z (N, r), B (V, r)) or None: see head_logps."""

    weight: Tensor
    bias: Tensor | None
    low_rank: tuple[Tensor, Tensor] | None


def head_of(causal: Any, hidden: Tensor) -> Head:
    """The output head as it stands, adapters on it included; hidden (N, H) is what it will read.

    Raises ModelError for an adapter on the head that is neither LoRA nor DoRA.
    """
    layer = _copy_in_use(causal.get_output_embeddings())
    if not hasattr(layer, "base_layer"):
        return Head(layer.weight, layer.bias, None)
    base = layer.get_base_layer()
    if layer.disable_adapters and layer.merged:
        layer.unmerge()
    if layer.disable_adapters or layer.merged:
        return Head(base.weight, base.bias, None)
    if not hasattr(layer, "lora_A"):
        raise ModelError(
            f"the output head carries a {type(layer).__name__} adapter",
            hint="on the head only LoRA and DoRA are supported; leave it out of the target layers",
        )
    return _with_lora(layer, base, hidden)


def is_reward_model(model: Any) -> bool:
    """Whether ``model``, plain or peft's, gives an answer a number and predicts no token."""
    return type(causal_model(model)).__name__.endswith("ForSequenceClassification")


def reward_layer(model: Any) -> Any:
    """The linear layer (H → 1) that makes the reward, as it stands: transformers' ``score``."""
    return _copy_in_use(causal_model(model).score)


def _copy_in_use(layer: Any) -> Any:
    """The trained copy of a layer that peft keeps beside the original (modules_to_save)."""
    if not hasattr(layer, "modules_to_save"):
        return layer
    original = layer.disable_adapters or layer.active_adapter not in layer.modules_to_save
    return layer.original_module if original else layer.modules_to_save[layer.active_adapter]


def _with_lora(layer: Any, base: Any, hidden: Tensor) -> Head:
    """W x + b plus, for each active adapter, s B A x; a DoRA head's weight is made whole."""
    weight, bias = base.weight, base.bias
    narrow: list[Tensor] = []
    wide: list[Tensor] = []
    for name in layer.active_adapters:
        if name not in layer.lora_A:
            continue
        a, b, scale = layer.lora_A[name], layer.lora_B[name], layer.scaling[name]
        if name in layer.lora_variant:
            weight = _dora_weight(layer, name, weight)
            continue
        narrow.append(a(layer.lora_dropout[name](hidden.to(a.weight.dtype))) * scale)
        wide.append(b.weight)
        if b.bias is not None:
            bias = b.bias * scale if bias is None else bias + b.bias * scale
    if not narrow:
        return Head(weight, bias, None)
    return Head(weight, bias, (torch.cat(narrow, dim=1), torch.cat(wide, dim=1)))


def _dora_weight(layer: Any, name: str, weight: Tensor) -> Tensor:
    """m (W + s B A) / ‖W + s B A‖ by rows, the norm without gradient (arXiv 2402.09353, eq. 5, 11).

    Dropout has no part in it.
    """
    if type(layer.lora_variant[name]).__name__ != "DoraLinearVariant":
        raise ModelError(
            f"the output head carries a {type(layer.lora_variant[name]).__name__} adapter",
            hint="on the head only LoRA and DoRA are supported; leave it out of the target layers",
        )
    update = layer.scaling[name] * (layer.lora_B[name].weight @ layer.lora_A[name].weight)
    whole = weight + update.to(weight.dtype)
    magnitude = layer.lora_magnitude_vector[name].weight
    factor = magnitude / torch.linalg.norm(whole.detach(), dim=1)
    return factor[:, None].to(weight.dtype) * whole


def logit_finish(config: Any) -> tuple[float, float | None]:
    """What an architecture does to its logits after the head: a factor, and a soft cap or None."""
    text = config.get_text_config()
    # Cohere and Falcon-H1 multiply, Granite divides, HyperCLOVA X multiplies under Granite's name.
    scale = float(getattr(text, "logit_scale", None) or 1.0)
    scale *= float(getattr(text, "lm_head_multiplier", None) or 1.0)
    scale *= float(getattr(text, "output_multiplier", None) or 1.0)
    scaling = float(getattr(text, "logits_scaling", None) or 1.0)
    scale = scale * scaling if "hyperclovax" in text.model_type else scale / scaling
    # Gemma 2 and later, NanoChat; RecurrentGemma has its own name for it.
    cap = getattr(text, "final_logit_softcapping", None) or getattr(text, "logits_soft_cap", None)
    return scale, None if cap is None else float(cap)
