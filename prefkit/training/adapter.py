"""A LoRA adapter: made from a seed, kept in fp32 beside the model, written for peft and vLLM.

The model computes with its own precision; the optimiser works on fp32 masters, which are what is
saved. Layers are named one by one in the saved configuration, because vLLM does not expand
"all-linear".
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prefkit.core.errors import ConfigError, from_os_error, require
from prefkit.core.files import fsync_folder
from prefkit.policy.gguf import quiet_transformers
from prefkit.policy.load import ADAPTER_CONFIG, Policy, attach_adapter
from prefkit.training.settings import LoraSettings


def with_adapter(policy: Policy, settings: LoraSettings, start: Path | None, seed: int) -> Any:
    """The model wrapped by peft with a new adapter, or with ``start`` to be trained further.

    A new adapter changes nothing yet (B = 0). A start adapter keeps its own rank and layers.
    """
    if start is not None:
        return attach_adapter(policy.model, start, trainable=True)
    peft = require("peft", "train")
    config = peft.LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=target_layers(policy.model, settings.targets),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(), quiet_transformers():
        torch.manual_seed(seed)
        return peft.get_peft_model(policy.model, config, autocast_adapter_dtype=False)


def target_layers(model: Any, targets: str | list[str]) -> list[str]:
    """Names of the linear layers to adapt, in order; ConfigError for one the model lacks."""
    head = model.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    if targets == "all-linear":
        return sorted(linear)
    wanted = [targets] if isinstance(targets, str) else targets
    unknown = [name for name in wanted if name not in linear]
    if unknown or not wanted:
        raise ConfigError(
            f"lora.targets: this model has no linear layer {', '.join(unknown) or '(none given)'}",
            hint=f"all-linear, or some of: {', '.join(sorted(linear))}",
        )
    return sorted(wanted)


class Masters:
    """fp32 copies of the trainable parameters: gradients gather here, the optimiser steps here."""

    def __init__(self, model: Any) -> None:
        self._live = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.values: dict[str, Tensor] = {
            name: parameter.detach().to(torch.float32, copy=True)
            for name, parameter in self._live.items()
        }
        for master in self.values.values():
            master.grad = torch.zeros_like(master)

    def gather(self) -> None:
        """Add the live gradients in fp32, so that a sum over micro-batches does not round."""
        for name, parameter in self._live.items():
            if parameter.grad is not None:
                grad = self.values[name].grad
                assert grad is not None
                grad.add_(parameter.grad)
                parameter.grad = None

    def zero(self) -> None:
        """Forget the gathered gradients."""
        for master in self.values.values():
            assert master.grad is not None
            master.grad.zero_()

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the masters into the model, rounded to its precision."""
        for name, parameter in self._live.items():
            parameter.copy_(self.values[name])

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Take over saved masters."""
        for name, master in self.values.items():
            master.copy_(values[name])
        self.publish()


def save_adapter(model: Any, masters: Masters, folder: Path, *, base: str, card: str) -> None:
    """Write the adapter folder whole or not at all; one that stood there before is replaced.

    base: the path or Hub id written as the adapter's base model. card: its README.md.
    """
    temporary = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        model.save_pretrained(
            str(temporary),
            state_dict={name: value.cpu() for name, value in masters.values.items()},
            save_embedding_layers=False,
        )
        config_path = temporary / ADAPTER_CONFIG
        config = json.loads(config_path.read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = base
        config["target_modules"] = sorted(config["target_modules"])
        config_path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
        (temporary / "README.md").write_text(card, "utf-8")
        _replace_folder(temporary, folder)
    except OSError as error:
        raise from_os_error(error, folder) or error from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def clear_unfinished(folder: Path) -> None:
    """Remove what kills left beside ``folder`` while it was written."""
    for leftover in folder.parent.glob(f"{folder.name}.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _replace_folder(temporary: Path, folder: Path) -> None:
    for path in temporary.iterdir():
        path.chmod(0o644)
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())
    if folder.exists():
        # A folder cannot be renamed over a full one; train.json, written last, tells whether the
        # adapter beside it is whole.
        shutil.rmtree(folder)
    os.rename(temporary, folder)
    fsync_folder(folder.parent)
