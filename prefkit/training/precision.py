"""In which precision a run computes: said at its start and kept in its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from prefkit.core.files import read_json
from prefkit.training.plan import Plan


@dataclass(frozen=True, slots=True)
class Precision:
    """dtype: what the model is held and computed in, adapter included. trained: what the trained
    weights are updated and written in. stored: what the model's files hold, None where they do not
    say."""

    dtype: str
    trained: str
    stored: str | None

    def __str__(self) -> str:
        lost = self.stored is not None and self.stored != self.dtype
        files = f" (the model's files: {self.stored})" if lost else ""
        return f"{self.dtype}{files}; what is trained is updated in {self.trained}"


def precision_of(plan: Plan, dtype: torch.dtype, masters: Mapping[str, Tensor]) -> Precision:
    """The precision of a run with its model in ``dtype``; masters: what is trained, by name."""
    trained = next((value.dtype for value in masters.values()), dtype)
    held = _name(dtype)
    return Precision(held, _name(trained), held if plan.loaded else _stored(plan))


def _stored(plan: Plan) -> str | None:
    config = read_json(plan.source.path / "config.json")
    # "torch_dtype" until transformers 5.
    named = config.get("dtype") or config.get("torch_dtype")
    return named if isinstance(named, str) else None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
