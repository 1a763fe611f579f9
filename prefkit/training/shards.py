"""A model whose parameters are split over the ranks: torch's FSDP2, layer by layer.

Called on torch directly, with what accelerate's launcher puts into the environment. Its own
``Accelerator.prepare`` (1.15) shards on accelerators only, wants the optimiser beside the model,
finds the layers of a transformers model but not those inside our Scorer, and averages gradients;
prefkit needs their sum, fp32 masters and the same code on a CPU.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from prefkit.core.errors import ConfigError
from prefkit.policy.parts import causal_model


def shard(scorer: nn.Module, model: Any) -> None:
    """Split the parameters of ``scorer`` over the ranks, in place; ``model`` is the one inside.

    Each layer is gathered for its own forward and backward pass; the rest (embeddings, last norm,
    head; under prompt tuning all there is) with the scorer. Gradients become sums over the ranks,
    reduced in fp32.
    """
    causal = causal_model(model)
    dtype = causal.get_input_embeddings().weight.dtype
    half = dtype in (torch.bfloat16, torch.float16)
    policy = MixedPrecisionPolicy(
        reduce_dtype=torch.float32 if half else None, cast_forward_inputs=False
    )
    again = os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() != "false"
    for layer in () if _computes_prompt(model) else _layers(causal):
        fully_shard(layer, mp_policy=policy, reshard_after_forward=again)
    fully_shard(scorer, mp_policy=policy)
    for module in _parts(scorer):
        module.set_gradient_divide_factor(1.0)
        # Gloo has no other reduction, and 1.0 needs none.
        module.set_force_sum_reduction_for_comms(True)
    scorer.register_forward_hook(_reshard)


def _computes_prompt(model: Any) -> bool:
    """Whether the layers compute keys and values of virtual tokens first (prompt tuning).

    These leave a layer beside its output, and FSDP2 gathers a layer for the backward pass when it
    meets the gradient of its output: of the last layer there is none.
    """
    configs = getattr(model, "peft_config", {}).values()
    return any(config.peft_type == "PROMPT_TUNING" for config in configs)


def _layers(causal: Any) -> list[nn.Module]:
    """The modules to gather one by one, as accelerate's configuration or the model names them."""
    given = os.environ.get("FSDP_TRANSFORMER_CLS_TO_WRAP")
    names = set(given.split(",") if given else causal._no_split_modules or ())
    layers = [module for module in causal.modules() if type(module).__name__ in names]
    missing = names - {type(layer).__name__ for layer in layers}
    if given and missing:
        raise ConfigError(
            f"fsdp_transformer_layer_cls_to_wrap: this model has no {', '.join(sorted(missing))}",
            hint="leave it out: the model names its own layers",
        )
    return layers


def _reshard(scorer: nn.Module, inputs: Any, output: Any) -> None:
    """After a pass without gradient no backward pass will let the gathered parameters go, and the
    next pass would not see a step that was taken in between."""
    if not torch.is_grad_enabled():
        for module in _parts(scorer):
            module.reshard()


def _parts(scorer: nn.Module) -> list[FSDPModule]:
    return [module for module in scorer.modules() if isinstance(module, FSDPModule)]


@contextmanager
def gathered(scorer: nn.Module) -> Generator[None]:
    """Inside, the model in ``scorer`` can be called by itself, by all ranks at once; no gradient.

    What belongs to no layer is whole in the meantime. Does nothing to a scorer that is not sharded.
    """
    if not isinstance(scorer, FSDPModule):
        yield
        return
    scorer.unshard()
    try:
        yield
    finally:
        for module in _parts(scorer):
            module.reshard()


def local_part(tensor: Tensor) -> Tensor:
    """This rank's part of a parameter or gradient, in the same memory; all of it if not sharded."""
    if not isinstance(tensor, DTensor):
        return tensor
    with torch.no_grad():
        return tensor.to_local()


def put_back(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Make ``weights`` (by name, whole) the parameters of a sharded model that trains no more.

    For saving: peft runs the encoder of virtual tokens once more instead of reading its weights.
    """
    for name, value in weights.items():
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        dtype = getattr(module, leaf).dtype
        setattr(module, leaf, nn.Parameter(value.to(dtype)))


def whole(part: Tensor, parameter: Tensor) -> Tensor:
    """All parts together, given this rank's of something shaped like ``parameter``; every rank
    has to call it."""
    if not isinstance(parameter, DTensor):
        return part
    spread = DTensor.from_local(
        part,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
    return spread.full_tensor()
