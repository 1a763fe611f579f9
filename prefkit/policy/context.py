"""How many tokens a model can read at once, as its configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def context_of(config: Mapping[str, Any]) -> int | None:
    """The positions of the model of config.json, None where it names no end."""
    text = {**config, **(config.get("text_config") or {})}
    # GPT-2 has its own name for it.
    limit = text.get("max_position_embeddings", text.get("n_positions"))
    return limit if isinstance(limit, int) else None
