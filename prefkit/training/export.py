"""What training leaves: an adapter or a model in Hugging Face's format, whole or not at all.

Beside the weights lie README.md (the model card) and prefkit.json (its facts); beside a whole
model also the tokenizer and chat template it was trained with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from prefkit.core.files import replacing_folder
from prefkit.policy.adapter_base import FACTS
from prefkit.policy.gguf import quiet_transformers
from prefkit.policy.load import ADAPTER_CONFIG
from prefkit.policy.parts import causal_model, is_reward_model
from prefkit.policy.resolve import ModelSource
from prefkit.training.card import Form, model_card
from prefkit.training.lineage import base_name

ADAPTER = "adapter"
MODEL = "model"


def leave(
    model: Any,
    weights: Mapping[str, Tensor],
    out: Path,
    *,
    tokenizer: Any,
    source: ModelSource,
    facts: Mapping[str, Any],
) -> Path:
    """Write out/adapter (peft models) or out/model (all weights trained); the folder.

    weights: the trained parameters by their names in ``model`` (the masters' values), whole on
    this process also where the model is sharded. An adapter is written as they are, in fp32; a
    whole model in its own precision. facts: from ``lineage``.
    """
    if hasattr(model, "peft_config"):
        folder = out / ADAPTER
        save_adapter(model, weights, folder, source=source, facts=facts)
    else:
        folder = out / MODEL
        save_model(model, weights, folder, tokenizer=tokenizer, source=source, facts=facts)
    return folder


def save_adapter(
    model: Any,
    weights: Mapping[str, Tensor],
    folder: Path,
    *,
    source: ModelSource,
    facts: Mapping[str, Any],
) -> None:
    """Write an adapter folder as peft and vLLM read it."""
    base = base_name(source)
    # What a method keeps beside its parameters (VeRA's random projections) is saved with them.
    state = {**model.state_dict(), **weights}
    state = {name: value.detach() for name, value in state.items() if _not_base(name)}
    with replacing_folder(folder) as temporary, quiet_transformers():
        model.save_pretrained(str(temporary), state_dict=state, save_embedding_layers=False)
        path = temporary / ADAPTER_CONFIG
        config = json.loads(path.read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = base
        for key in ("target_modules", "feedforward_modules", "modules_to_save"):
            if isinstance(config.get(key), list):
                config[key] = sorted(set(config[key]))  # in no order, and with doubles, in peft
        path.write_text(
            json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8"
        )
        facts = {**facts, "adapter_rank": _rank(config), "trains_head": _trains_head(model)}
        _describe(temporary, _with_reward(model, facts), "adapter", base)


def _rank(config: Mapping[str, Any]) -> int | None:
    """The largest rank in the adapter, which may be one of before; None for methods without."""
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    return max((rank for rank in ranks if isinstance(rank, int)), default=None)


def _trains_head(model: Any) -> bool:
    """Whether the adapter changes the head, which vLLM does not serve."""
    head = model.get_base_model().get_output_embeddings()
    return getattr(head, "base_layer", None) is not None


def _not_base(name: str) -> bool:
    return ".base_layer." not in name


def save_model(
    model: Any,
    weights: Mapping[str, Tensor],
    folder: Path,
    *,
    tokenizer: Any,
    source: ModelSource,
    facts: Mapping[str, Any],
    form: Form = "model",
) -> None:
    """Write a model folder: safetensors in the model's precision, configuration, tokenizer."""
    state = model.state_dict()
    state |= {name: value.detach().to(state[name].dtype) for name, value in weights.items()}
    for name, twin in tied_names(model).items():
        state[name] = state[twin]
    with replacing_folder(folder) as temporary, quiet_transformers():
        # The small files first: a disk that is full for the tokenizer needs no gigabytes to tell.
        tokenizer.save_pretrained(str(temporary))
        _describe(temporary, _with_reward(model, facts), form, base_name(source))
        model.save_pretrained(str(temporary), state_dict=state)


def tied_names(model: Any) -> dict[str, str]:
    """Names in the state of a plain model that share another's parameter → the other's name."""
    first: dict[int, str] = {}
    twins: dict[str, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owner = first.setdefault(id(parameter), name)
        if owner != name:
            twins[name] = owner
    return twins


def _with_reward(model: Any, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """``facts``, and for a reward model the padding by which transformers finds answers' ends."""
    if not is_reward_model(model):
        return facts
    padding = causal_model(model).config.get_text_config().pad_token_id
    return {**facts, "reward": {"pad_token_id": padding}}


def _describe(folder: Path, facts: Mapping[str, Any], form: Form, base: str) -> None:
    facts = {**facts, "form": form}
    text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / FACTS).write_text(text + "\n", "utf-8")
    (folder / "README.md").write_text(model_card(facts, form, base=base), "utf-8")
