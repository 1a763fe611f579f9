"""The trainable parameters as the optimiser sees them: fp32 values and the gradient of a step.

The model computes with its own precision; gradients of packs add up here in fp32, and a pack that
fails in the middle leaves no trace. A parameter that is fp32 or fp64 already is its own master.
Of parameters that are sharded over ranks, this rank's part is all that is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from prefkit.training.shards import local_part, whole


class Masters:
    """``values``: name → fp32 (or fp64) master of every parameter that requires a gradient."""

    def __init__(self, model: Any) -> None:
        self._live = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._copies = {name for name, p in self._live.items() if not _exact(p)}
        self.values: dict[str, Tensor] = {
            name: local_part(p).detach().to(torch.float32)
            if name in self._copies
            else local_part(p)
            for name, p in self._live.items()
        }
        self._sums: dict[str, Tensor] = {}

    def differentiate(self, root: Tensor, *, sharded: bool) -> dict[str, Tensor]:
        """The gradient of ``root`` by name, of those parameters that it depends on.

        Nothing is left in the model, so that packs can be differentiated side by side. Sharded
        layers collect theirs in the model, by hooks that only a whole backward pass calls.
        """
        if not sharded:
            found = torch.autograd.grad(root, list(self._live.values()), allow_unused=True)
            return {n: g for n, g in zip(self._live, found, strict=True) if g is not None}
        root.backward()
        gradients = {n: local_part(p.grad) for n, p in self._live.items() if p.grad is not None}
        self.drop()
        return gradients

    def add(
        self,
        gradients: dict[str, Tensor],
        factor: float = 1.0,
        sums: dict[str, Tensor] | None = None,
    ) -> None:
        """Add gradients, times ``factor``, to the step's, or to ``sums``, what a lane has of it;
        ``gradients`` is empty afterwards."""
        sums = self._sums if sums is None else sums
        while gradients:
            name, live = gradients.popitem()
            gradient = live.to(self.values[name].dtype)
            if factor != 1.0:
                gradient = gradient * factor
            if name in sums:
                sums[name].add_(gradient)
            else:
                sums[name] = gradient

    def drop(self) -> None:
        """Forget the gradients in the model: those of a pack that was not finished."""
        for parameter in self._live.values():
            parameter.grad = None

    def zero(self) -> None:
        """Forget the gradients of the step."""
        self.drop()
        self._sums.clear()
        for master in self.values.values():
            master.grad = None

    def gradients(self) -> list[Tensor]:
        """The step's gradients in the order of ``values``, zeros where there is none: what ranks
        add up and what is clipped, in place."""
        for name, master in self.values.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(master)
        return [self._sums[name] for name in self.values]

    def offer(self) -> list[Tensor]:
        """Hand the step's gradients to the optimiser; the masters."""
        for master, gradient in zip(self.values.values(), self.gradients(), strict=True):
            master.grad = gradient
        return list(self.values.values())

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the masters into the model, rounded to its precision."""
        for name in self._copies:
            local_part(self._live[name]).copy_(self.values[name])

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Take over saved masters."""
        for name, master in self.values.items():
            master.copy_(values[name])
        self.publish()

    def whole(self, *, keep: bool) -> dict[str, Tensor]:
        """The masters with the parts of all ranks put together, if ``keep``, else nothing; every
        rank has to call it."""
        found: dict[str, Tensor] = {}
        for name, parameter in self._live.items():
            value = whole(self.values[name].detach(), parameter)
            if keep:
                found[name] = value
        return found


def in_one_block(gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the gradients as views of one tensor.

    Hundreds of small tensors that outlive a pack lie between its activations, and the memory of
    these cannot be used as a whole again.
    """
    flat = torch.cat([gradient.flatten() for gradient in gradients.values()])
    parts = flat.split([gradient.numel() for gradient in gradients.values()])
    return {
        name: part.view(gradient.shape)
        for (name, gradient), part in zip(gradients.items(), parts, strict=True)
    }


def _exact(parameter: Tensor) -> bool:
    return parameter.dtype in (torch.float32, torch.float64)
