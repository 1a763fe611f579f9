"""What a constraint is, as data: two that could give other penalties have other digests.

A run that was finished or killed is found again by its inputs, and a function is one of them. Its
name says too little: ``penalty(0.1)`` and ``penalty(1.0)`` may come from one factory.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch


def constraint_digest(constraint: object) -> str:
    """Changes with a constraint's code, defaults, closed-over values and attributes, and with what
    its code names in its own module: numbers, texts and tensors by value, functions by their code.
    Classes and functions of other modules count by name.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in _parts(constraint, {}):
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def _parts(value: object, seen: dict[int, tuple[int, object]]) -> Iterator[str]:
    """``value`` as texts, depth first. seen: what was met before, by id, with its place."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        yield repr(value)
        return
    # Equal tuples and code may be one object or two, as the interpreter likes; neither has cycles.
    if not isinstance(value, tuple | CodeType):
        if id(value) in seen:
            yield f"met before: {seen[id(value)][0]}"
            return
        seen[id(value)] = (len(seen), value)
    yield type(value).__qualname__
    for part in _inside(value):
        yield from _parts(part, seen)


def _inside(value: Any) -> Iterable[object]:
    """What ``value`` consists of."""
    match value:
        case torch.Tensor():
            flat = value.detach().cpu().contiguous().view(-1)
            return [str(value.dtype), tuple(value.shape), flat.view(torch.uint8).numpy().tobytes()]
        case np.ndarray():
            return [str(value.dtype), value.shape, value.tobytes()]
        case functools.partial():
            return [value.func, value.args, value.keywords]
        case MethodType():
            return [value.__func__, value.__self__]
        case CodeType():
            return [value.co_code, value.co_consts, value.co_names, value.co_varnames]
        case FunctionType():
            cells = [c.cell_contents for c in value.__closure__ or () if c != CellType()]
            own = [value.__qualname__, value.__code__, value.__defaults__, value.__kwdefaults__]
            return [*own, *cells, *_named(value)]
        case type() | ModuleType():
            return [getattr(value, "__module__", ""), value.__name__]
        case Mapping():
            return [part for pair in value.items() for part in pair]
        case Set():
            return sorted(repr(item) for item in value)
        case list() | tuple():
            return value
        case _ if is_dataclass(value):
            held = {field.name: getattr(value, field.name) for field in fields(value)}
        case _:
            held = getattr(value, "__dict__", {})
    methods = [part for part in vars(type(value)).values() if isinstance(part, FunctionType)]
    return [held, *methods]


def _named(function: FunctionType) -> list[tuple[str, object]]:
    """The module's own values and functions that a function's code names."""
    found: list[tuple[str, object]] = []
    for name in sorted(_names(function.__code__) & function.__globals__.keys()):
        value = function.__globals__[name]
        foreign = isinstance(value, FunctionType) and value.__module__ != function.__module__
        found.append((name, f"{value.__module__}.{name}" if foreign else value))
    return found


def _names(code: CodeType) -> set[str]:
    inner = [part for part in code.co_consts if isinstance(part, CodeType)]
    return set(code.co_names).union(*(_names(part) for part in inner))
