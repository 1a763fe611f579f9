"""An adapter made part of the weights: a model that needs no peft, for vLLM and everything else.

Merged in fp32, then rounded once to the precision it is stored in. A bf16 weight has 8 bits, and
changes smaller than half its last bit are rounded away, so the result says what rounding did.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prefkit.core.errors import ConfigError, ModelError, require
from prefkit.core.files import read_json
from prefkit.core.progress import Progress, silent
from prefkit.policy.adapter_base import FACTS
from prefkit.policy.load import REWARD_TASK, adapter_digest, check_adapter, load_policy, pick_dtype
from prefkit.policy.resolve import ModelSource, resolve_model
from prefkit.policy.rewards import load_reward_model
from prefkit.training.export import save_model
from prefkit.training.lineage import base_facts
from prefkit.training.methods import METHODS, method_of


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge came to.

    n_layers: layers that the adapter changed. rounding: ‖stored − exact‖ / ‖exact − base‖ over
    their weights, 0 where nothing was lost, 1 where as much was lost as was learned. untied: the
    head had an adapter of its own, so head and embedding are now two matrices.
    """

    folder: Path
    dtype: str
    n_layers: int
    rounding: float
    untied: bool

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {**asdict(self), "folder": str(self.folder)}


def merge(
    adapter: Path,
    out: Path,
    *,
    model: str | ModelSource | None = None,
    dtype: str = "auto",
    overwrite: bool = False,
    progress: Progress = silent,
) -> Merged:
    """Write ``adapter`` merged into its base model as a model folder ``out``.

    model: the base, by default the one that the adapter names. dtype: the precision of the stored
    weights, auto is the base's own. overwrite: replaces a model that was merged into ``out``
    earlier; ConfigError where it is False, where other things are there, and where ``out`` is what
    is to be merged. Raises ModelError for an adapter that cannot be merged or is another base's.
    """
    config = check_adapter(adapter)
    _check_free(out, overwrite)
    method = METHODS.get(method_of(config))
    if method is not None and not method.merges:
        raise ModelError(
            f"{adapter}: virtual tokens (method {method.name}) cannot be merged into weights",
            hint="load it with transformers and peft, or train with method lora",
        )
    source = model if isinstance(model, ModelSource) else _base(adapter, config, model, progress)
    if out.resolve() == source.path.resolve():
        raise ConfigError(f"{out}: this is the base model itself", hint="choose another --out")
    progress("loading the model", 0, 1)
    load = load_reward_model if config.get("task_type") == REWARD_TASK else load_policy
    policy = load(source, adapter=adapter, dtype="float32", device="cpu")
    progress("loading the model", 1, 1)
    stored = pick_dtype(dtype) if dtype != "auto" else _dtype_of(source)
    untied = _untie(policy.model)
    n_layers, rounding = _merge_layers(policy.model, stored, progress)
    plain = policy.model.unload().to(stored)
    plain.requires_grad_(True)
    if untied:
        plain.config.tie_word_embeddings = False
        plain.config.get_text_config(decoder=True).tie_word_embeddings = False
    name = str(stored).removeprefix("torch.")
    facts = {
        **_facts(adapter, config, source),
        "rounding": f"{name}, error {rounding:.2%} of change",
    }
    save_model(
        plain, {}, out, tokenizer=policy.tokenizer, source=source, facts=facts, form="merged"
    )
    return Merged(out, name, n_layers, rounding, untied)


def _check_free(out: Path, overwrite: bool) -> None:
    """The folder is about to be replaced, and only one that holds a model of ours may be."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    facts = out / FACTS
    if not (facts.is_file() and read_json(facts).get("form") == "merged"):
        raise ConfigError(
            f"{out}: is there already and is no model that prefkit merged",
            hint="choose another --out",
        )
    if not overwrite:
        raise ConfigError(
            f"{out}: holds a merged model already",
            hint="choose another --out, or replace it with --overwrite",
        )


def _base(
    adapter: Path, config: Mapping[str, Any], model: str | None, progress: Progress
) -> ModelSource:
    named = model or config.get("base_model_name_or_path")
    if not named:
        raise ModelError(f"{adapter}: names no base model", hint="give it with --model")
    return resolve_model(str(named), progress=progress)


def _dtype_of(source: ModelSource) -> torch.dtype:
    config = require("transformers", "train").AutoConfig.from_pretrained(source.path)
    return config.dtype or torch.float32


def _untie(model: Any) -> bool:
    """Give an adapted head a matrix of its own where it shares one with the embedding.

    Merged in place it would change the embedding too, which the adapter never did.
    """
    base = model.get_base_model()
    head, embedding = base.get_output_embeddings(), base.get_input_embeddings()
    plain = getattr(head, "base_layer", None)
    if plain is None or plain.weight is not embedding.weight:
        return False
    plain.weight = torch.nn.Parameter(plain.weight.detach().clone())
    return True


@torch.no_grad()
def _merge_layers(model: Any, stored: torch.dtype, progress: Progress) -> tuple[int, float]:
    """Merge layer by layer, so that only one base weight is held twice; layers and rounding."""
    layer_class = require("peft.tuners.tuners_utils", "train").BaseTunerLayer
    layers = [module for module in model.modules() if isinstance(module, layer_class)]
    lost = learned = 0.0
    for done, layer in enumerate(layers, start=1):
        before = layer.get_base_layer().weight.clone()
        layer.merge(safe_merge=True)
        exact = layer.get_base_layer().weight
        lost += _square(exact.to(stored).float() - exact)
        learned += _square(exact - before)
        progress("merging", done, len(layers))
    return len(layers), math.sqrt(lost / learned) if learned else 0.0


def _square(tensor: Tensor) -> float:
    return float(tensor.double().square().sum())


def _facts(adapter: Path, config: Mapping[str, Any], source: ModelSource) -> dict[str, Any]:
    """The adapter's lineage, or what can be said of one that another tool wrote."""
    path = adapter / FACTS
    if path.is_file():
        facts = dict(read_json(path))
    else:
        facts = {
            "method": method_of(config),
            "base": base_facts(source),
            "start": None,
            "run": None,
            "data": None,
            "settings": {},
        }
    return {**facts, "adapter": adapter_digest(adapter)}
