"""Which base model an adapter was trained over, as its folder says, and whether it is the one here.

Models of the same shape take one another's adapters without a word and answer nonsense, so the
weights are compared by digest. Knows nothing of weights in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from prefkit.core.errors import ModelError
from prefkit.core.files import read_json
from prefkit.policy.resolve import ModelSource

# Beside the weights of what prefkit trained: where it comes from.
FACTS = "prefkit.json"


def check_base(source: ModelSource, adapter: Path) -> None:
    """Refuse an adapter that was trained over other weights than those of ``source``: ModelError.

    Nothing is known, and nothing refused, of adapters that other tools wrote, of models that were
    in memory, and of servers. The same weights in another folder are the same model, also where
    its tokenizer or chat template was changed since.
    """
    base = _base(adapter)
    theirs = base.get("weights")
    if theirs is None or source.weights is None or theirs == source.weights:
        return
    name = base.get("spec")
    raise ModelError(
        f"{adapter}: this adapter was trained over {name} (weights {theirs}), and {source.spec} is "
        f"another model (weights {source.weights})",
        hint=f"--model {name}; where {source.spec} is that model stored otherwise (in another "
        f"precision, say), move {FACTS} out of the adapter's folder",
    )


def _base(adapter: Path) -> Mapping[str, Any]:
    """What the adapter's folder says of its base; empty where it says nothing."""
    path = adapter / FACTS
    facts = read_json(path) if path.is_file() else None
    base = cast(Mapping[str, Any], facts).get("base") if isinstance(facts, Mapping) else None
    return cast(Mapping[str, Any], base) if isinstance(base, Mapping) else {}
