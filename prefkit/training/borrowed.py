"""A model that the caller has in memory: lent to a run, and given back as it was."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from torch import nn

from prefkit.policy.layout import attention_of


@contextmanager
def borrowed(model: Any) -> Generator[None]:
    """Inside, a run may change ``model`` as it likes; afterwards, whatever ended the run, it is as
    it was, but for the weights that method full trains.

    That is: its layers and hooks, every attribute of theirs (dropout, checkpointing, training
    mode), the attention it computes with, and which parameters require a gradient.
    """
    attention = attention_of(model)
    restore = [_memory_of(module) for module in model.modules()]
    trainable = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for undo in restore:
            undo()
        for parameter, required in trainable:
            parameter.requires_grad_(required)
            parameter.grad = None
        if attention_of(model) != attention:
            model.set_attn_implementation(attention)


def _memory_of(module: nn.Module) -> Callable[[], None]:
    """A call that sets the module's attributes, layers, buffers and hooks to what they are now."""
    attributes = dict(vars(module))
    # Filled in place, because the handles of a caller's hooks know the dictionary itself.
    filled = [
        (held, dict(held))
        for name, held in attributes.items()
        if isinstance(held, dict) and (name in ("_modules", "_buffers") or "hooks" in name)
    ]

    def undo() -> None:
        vars(module).clear()
        vars(module).update(attributes)
        for held, content in filled:
            held.clear()
            held.update(content)

    return undo
