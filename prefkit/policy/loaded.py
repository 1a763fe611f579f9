"""A model that the caller has in memory already, as the rest of prefkit takes it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from prefkit.core.errors import ModelError
from prefkit.policy.load import Policy
from prefkit.policy.resolve import HUB_ID, ModelSource


def loaded_policy(model: Any, tokenizer: Any) -> Policy:
    """The policy of a transformers model and its tokenizer; nothing is copied.

    Its digest covers every weight (read once, about a second a gigabyte), the configuration and
    the tokenizer, so that reference log-probs kept for it are found again. Training with method
    full changes the model that was given: before another run, make a policy of it anew. Raises
    ModelError for a model that carries an adapter: give its base model, and the adapter as
    ``start_adapter``.
    """
    if hasattr(model, "peft_config"):
        raise ModelError(
            "the model in memory is wrapped by peft",
            hint="give its base model, and the adapter's folder as start_adapter",
        )
    name = str(getattr(model.config, "_name_or_path", "") or "model in memory")
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    kind = "hub" if HUB_ID.fullmatch(name) and not Path(name).exists() else "memory"
    source = ModelSource(name, Path(name), kind, None, _digest(model, tokenizer), size)
    return Policy(model, tokenizer, source, source.digest)


def _digest(model: Any, tokenizer: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(model.config.to_json_string(use_diff=False).encode())
    digest.update(repr(sorted(tokenizer.get_vocab().items())).encode())
    digest.update(str(tokenizer.chat_template).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\n".encode())
        # A view as bytes: numpy knows no bfloat16.
        flat = tensor.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()
