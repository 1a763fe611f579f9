"""prefkit: preference data and training in one kit.

``import prefkit`` loads neither torch nor gradio: each name below is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefkit.aggregation import aggregate
    from prefkit.curation import curate
    from prefkit.evaluation import evaluate
    from prefkit.formats.load import load
    from prefkit.generation import generate
    from prefkit.judging import judge
    from prefkit.training import train
    from prefkit.workspace import Workspace

__version__ = "0.1.0"
__all__ = [
    "Workspace",
    "__version__",
    "aggregate",
    "curate",
    "evaluate",
    "generate",
    "judge",
    "load",
    "train",
]

_HOMES = {
    "Workspace": "prefkit.workspace",
    "aggregate": "prefkit.aggregation",
    "curate": "prefkit.curation",
    "evaluate": "prefkit.evaluation",
    "generate": "prefkit.generation",
    "judge": "prefkit.judging",
    "load": "prefkit.formats.load",
    "train": "prefkit.training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'prefkit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
