"""An adapter that is trained further: the settings are its own, whatever was asked for.

Its rank, scale, dropout and layers are in its configuration. Settings that ask for others cannot
be followed and are refused by name; those left at their defaults ask for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefkit.core.errors import ConfigError, require
from prefkit.training.adapter import check_start
from prefkit.training.adapter_settings import AdapterSettings, LoraSettings
from prefkit.training.methods import METHODS, Method
from prefkit.training.settings import TrainSettings

# What an adapter's configuration holds besides the method's options.
_NO_OPTIONS = frozenset({
    "base_model_name_or_path", "revision", "peft_type", "task_type", "inference_mode",
    "auto_mapping", "peft_version", "num_virtual_tokens", "num_layers", "token_dim",
    "num_attention_heads", "num_transformer_submodules", "encoder_hidden_size",
})  # fmt: skip


def going_on(settings: TrainSettings, start: Path) -> TrainSettings:
    """``settings`` with the rank, scale, dropout, layers, options and virtual tokens of the
    adapter ``start``: what is really trained.

    Raises ConfigError where other ones are asked for or the adapter is of another method,
    ModelError where ``start`` is no adapter.
    """
    method = METHODS[settings.method]
    config = check_start(method, start)
    faults = [*_lora_faults(settings.lora, method, config), *_other_faults(settings, config)]
    if faults:
        raise ConfigError(
            f"{start} is trained further as it is, and other settings were given: "
            f"{'; '.join(faults)}",
            hint="leave them out, give those of the adapter, or start without an adapter",
        )
    shape = {
        name: config[field] for name, field in _shape(method).items() if field in config
    } | _targets(config)
    changes: dict[str, Any] = {"lora": settings.lora.model_copy(update=shape)}
    changes["method_options"] = _options(method, config)
    if "num_virtual_tokens" in config:
        changes["n_virtual_tokens"] = config["num_virtual_tokens"]
    return settings.model_copy(update=changes)


def _shape(method: Method) -> dict[str, str]:
    """The settings of ``lora`` that the method has, and what peft calls them."""
    fields = {str(given).strip("{}"): name for name, given in method.fields if _is_given(given)}
    return fields | ({"r": "r"} if method.ranked else {})


def _is_given(value: object) -> bool:
    return isinstance(value, str) and value.startswith("{")


def _lora_faults(lora: LoraSettings, method: Method, config: Mapping[str, Any]) -> list[str]:
    """What of ``lora`` was asked for, is not at its default, and is otherwise in the adapter."""
    if method.kind != "layers":
        return []
    default = LoraSettings()
    faults = [
        f"lora.{name} is {getattr(lora, name)}, the adapter's is {config.get(field)}"
        for name, field in _shape(method).items()
        if getattr(lora, name) != getattr(default, name)
        and getattr(lora, name) != config.get(field, getattr(default, name))
    ]
    have = set(_names(config.get("target_modules")))
    wanted = {name for name in _names(lora.targets) if name != "all-linear"}
    exact = "all-linear" not in _names(lora.targets)
    if wanted - have or (exact and wanted != have):
        faults.append(
            f"lora.targets is {', '.join(_names(lora.targets))}, the adapter has "
            f"{', '.join(sorted(have))}"
        )
    return faults


def _other_faults(settings: AdapterSettings, config: Mapping[str, Any]) -> list[str]:
    faults = [
        f"method_options.{name} is {value}, the adapter's is {config.get(name)}"
        for name, value in settings.method_options.items()
        if value != config.get(name)
    ]
    n, have = settings.n_virtual_tokens, config.get("num_virtual_tokens")
    default = AdapterSettings.model_fields["n_virtual_tokens"].default
    if have is not None and n not in (default, have):
        faults.append(f"n_virtual_tokens is {n}, the adapter has {have}")
    return faults


def _targets(config: Mapping[str, Any]) -> dict[str, str | list[str]]:
    targets = config.get("target_modules")
    if targets is None:
        return {}
    return {"targets": targets if isinstance(targets, str) else sorted(targets)}


def _names(targets: str | list[str] | None) -> list[str]:
    return [targets] if isinstance(targets, str) else list(targets or ())


def _options(method: Method, config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """What of peft's own options the adapter has otherwise than by default."""
    plain = getattr(require("peft", "train"), method.config)().to_dict()
    taken = _NO_OPTIONS | {"r", "target_modules"} | {name for name, _ in method.fields}
    return {
        name: value
        for name, value in sorted(config.items())
        if name not in taken
        and isinstance(value, bool | int | float | str)
        and name in plain
        and value != plain[name]
    }
