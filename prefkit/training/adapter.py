"""What of a model is trained, made ready: an adapter from a seed, virtual tokens, or all weights.

Layers are named one by one in an adapter's configuration, because vLLM does not expand
"all-linear".
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prefkit.core.errors import ConfigError, require
from prefkit.policy.gguf import quiet_transformers
from prefkit.policy.load import REWARD_TASK, Policy, attach_adapter, check_adapter
from prefkit.policy.parts import is_reward_model
from prefkit.policy.virtual import keys_values_of
from prefkit.training.adapter_settings import AdapterSettings
from prefkit.training.fused_lora import fuse_lora
from prefkit.training.methods import METHODS, Method, method_of

HEAD_METHODS = ("lora", "qlora")
# Of virtual tokens, what the settings and the model say.
_VIRTUAL_SIZES = {
    "prompt": ("num_virtual_tokens",),
    "prefix": ("num_virtual_tokens", "num_layers", "token_dim", "num_attention_heads"),
}


def prepare_model(policy: Policy, settings: AdapterSettings, start: Path | None, seed: int) -> Any:
    """The model to train: what ``settings.method`` trains requires a gradient, nothing else does.

    A plain model for method full, else peft's wrapping of it with a new adapter drawn from
    ``seed`` (the global generators stay as they are), or with the adapter ``start``, which keeps
    its own rank and layers. A new adapter of layers changes nothing yet; virtual tokens start as
    random words of the vocabulary. ConfigError where method, start and model do not fit.
    """
    method = METHODS[settings.method]
    if start is not None:
        check_start(method, start)
        return _fused(attach_adapter(policy.model, start, trainable=True))
    if method.kind == "full":
        policy.model.requires_grad_(True)
        return policy.model
    _check_quantised(method, policy.model)
    if method.kind == "virtual" and is_reward_model(policy.model):
        raise ConfigError(
            f"method {method.name}: peft trains no reward beside virtual tokens",
            hint="use method lora or full",
        )
    if method.kind == "virtual":
        return _with_virtual_tokens(policy, method, settings, seed)
    config = _layers_config(policy.model, method, settings)
    return _fused(_wrapped(policy.model, config, seed))


def check_new(model: Any, settings: AdapterSettings) -> None:
    """Refuse what no new adapter of ``model`` can be made of, names of layers included; a model
    without weights will do. Raises ConfigError."""
    method = METHODS[settings.method]
    if method.kind == "layers":
        _layers_config(model, method, settings)
    elif method.kind == "virtual":
        # Sizes are the model's; here only that they are not given.
        _peft_config(method, settings, dict.fromkeys(_VIRTUAL_SIZES[method.name]))


def _fused(model: Any) -> Any:
    fuse_lora(model)
    return model


def check_start(method: Method, start: Path) -> Mapping[str, Any]:
    """The configuration of an adapter to train further; ConfigError where it is of another
    method."""
    if method.kind == "full":
        raise ConfigError(
            f"method full: {start} is an adapter, and all weights of the model are to be trained",
            hint="prefkit merge ADAPTER --out DIR, then --model DIR without --adapter",
        )
    config = check_adapter(start)
    found = method_of(config)
    if found != ("lora" if method.name == "qlora" else method.name):
        raise ConfigError(
            f"method {method.name}: {start} is an adapter of method {found}",
            hint=f"--set method={found}, or start without an adapter",
        )
    return config


def _check_quantised(method: Method, model: Any) -> None:
    if method.name == "qlora" and not getattr(model, "is_loaded_in_4bit", False):
        raise ConfigError(
            "method qlora: the model's weights are not 4-bit",
            hint="load it with quantize=True on a CUDA device, or use method lora",
        )


def _layers_config(model: Any, method: Method, settings: AdapterSettings) -> Any:
    """peft's configuration of a new adapter of layers."""
    targets = target_layers(model, settings.lora.targets)
    head = _head_name(model)
    if head in targets and is_reward_model(model):
        raise ConfigError(
            f"lora.targets: {head} makes the reward and is trained whole", hint=f"leave {head} out"
        )
    if head in targets and method.name not in HEAD_METHODS:
        raise ConfigError(
            f"lora.targets: method {method.name} does not train the head ({head})",
            hint=f"use method lora, or leave {head} out",
        )
    fields: dict[str, Any] = {"target_modules": targets}
    if method.ranked:
        fields["r"] = settings.lora.r
    if method.name == "ia3":
        fields["feedforward_modules"] = []  # every layer's output is scaled, none's input
    if is_reward_model(model):
        fields["task_type"] = REWARD_TASK  # by which peft trains and saves the reward's layer too
    return _peft_config(method, settings, fields)


def _with_virtual_tokens(
    policy: Policy, method: Method, settings: AdapterSettings, seed: int
) -> Any:
    """Virtual tokens that begin as words drawn from the vocabulary (arXiv 2104.08691, 3.2).

    For a prefix they are the keys and values that the model computes for these words
    (arXiv 2101.00190, section 7.4: random numbers instead are much worse).
    """
    model, n = policy.model, settings.n_virtual_tokens
    words = _drawn_words(policy, n, seed)
    fields: dict[str, Any] = {"num_virtual_tokens": n}
    if method.name == "prompt":
        start = model.get_input_embeddings()(words)[0].detach()
    else:
        layers = keys_values_of(model, words)
        shapes = {part.shape for layer in layers for part in layer}
        if len(shapes) != 1:
            raise ConfigError(
                "method prefix: the layers of this model keep keys and values of different shape",
                hint="use method prompt or lora",
            )
        _, heads, _, size = shapes.pop()
        fields |= {"num_layers": len(layers), "token_dim": heads * size}
        fields |= {"num_attention_heads": heads}
        stacked = torch.stack([part[0] for layer in layers for part in layer])  # (2L, H, n, D)
        start = stacked.permute(2, 0, 1, 3).reshape(n, -1)
    wrapped = _wrapped(model, _peft_config(method, settings, fields), seed)
    with torch.no_grad():
        wrapped.prompt_encoder[wrapped.active_adapter].embedding.weight.copy_(start)
    return wrapped


def _drawn_words(policy: Policy, n: int, seed: int) -> Tensor:
    """(1, n) ids of the vocabulary, none of them special."""
    special = set(policy.tokenizer.all_special_ids)
    words = torch.tensor([i for i in range(len(policy.tokenizer)) if i not in special])
    at = torch.randint(len(words), (n,), generator=torch.Generator().manual_seed(seed))
    return words[at][None].to(policy.model.device)


def _peft_config(method: Method, settings: AdapterSettings, fields: dict[str, Any]) -> Any:
    peft = require("peft", "train")
    values: dict[str, Any] = {"task_type": "CAUSAL_LM", **fields}
    for name, value in method.fields:
        given = isinstance(value, str) and value.startswith("{")
        values[name] = getattr(settings.lora, str(value).strip("{}")) if given else value
    _check_start_of(settings.method_options)
    taken = [name for name in settings.method_options if name in values]
    if taken:
        raise ConfigError(
            f"method_options.{taken[0]}: prefkit sets it itself",
            hint="rank, scale, dropout and layers are set in lora, virtual tokens in "
            "n_virtual_tokens",
        )
    try:
        return getattr(peft, method.config)(**values, **settings.method_options)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"method_options: peft does not take them for method {method.name}: {error}",
            hint=f"see peft's {method.config}",
        ) from None


def _check_start_of(options: Mapping[str, object]) -> None:
    """Refuse what makes a new adapter more than nothing, or trains what is below it.

    PiSSA, OLoRA and their like move part of the weights into the adapter: switched off, it leaves
    another model than the one given, and the reference would be that.
    """
    for name, allowed in (
        ("init_lora_weights", (True, "gaussian")),
        ("init_weights", (True, "lycoris")),
        ("init_ia3_weights", (True,)),
        ("bias", ("none",)),
        ("inference_mode", (False,)),
    ):
        if name in options and options[name] not in allowed:
            taken = " or ".join(repr(value) for value in allowed)
            raise ConfigError(
                f"method_options.{name} is {options[name]!r}: a new adapter has to leave the model "
                "as it is, because that is the reference, and be all that is trained",
                hint=f"leave it out, or set it to {taken}",
            )


def _wrapped(model: Any, config: Any, seed: int) -> Any:
    peft = require("peft", "train")
    with torch.random.fork_rng(), quiet_transformers():
        torch.manual_seed(seed)
        try:
            return peft.get_peft_model(model, config, autocast_adapter_dtype=False)
        except (ValueError, NotImplementedError) as error:
            raise ConfigError(
                f"peft cannot lay this adapter over the model: {error}",
                hint="see lora.targets and method_options, or use method lora",
            ) from None


def _head_name(model: Any) -> str:
    head = model.score if is_reward_model(model) else model.get_output_embeddings()
    names = [name for name, module in model.named_modules() if module is head]
    return names[0].rpartition(".")[2] if names else ""


def target_layers(model: Any, targets: str | list[str]) -> list[str]:
    """Names of the linear layers to adapt, in order; ConfigError for one the model lacks.

    "all-linear" stands for all of them but the head, which is adapted only where it is named.
    """
    conv1d = require("transformers.pytorch_utils", "train").Conv1D
    named = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | conv1d)
    }
    inner = named - {_head_name(model)}
    wanted = [targets] if isinstance(targets, str) else targets
    chosen = {name for name in wanted if name != "all-linear"}
    unknown = sorted(chosen - named)
    if "all-linear" in wanted:
        chosen |= inner
    if unknown or not chosen:
        raise ConfigError(
            f"lora.targets: this model has no linear layer {', '.join(unknown) or '(none given)'}",
            hint=f"all-linear, or some of: {', '.join(sorted(named))}",
        )
    return sorted(chosen)


@contextmanager
def reference_mode(model: Any) -> Generator[None]:
    """The model as it was before its adapter: inside, adapters and virtual tokens are off.

    For peft models; all weights of a plain model are the policy's, so its reference is a copy.
    """
    if not hasattr(model, "peft_config"):
        raise TypeError("a model without an adapter has none to switch off")
    with model.disable_adapter():
        yield


@contextmanager
def still(model: Any, *, adapter: bool = True) -> Generator[None]:
    """The model without dropout; without ``adapter`` also as it was before one, if it has one."""
    training = model.training
    model.eval()
    off = not adapter and hasattr(model, "peft_config")
    try:
        with reference_mode(model) if off else nullcontext():
            yield
    finally:
        model.train(training)
