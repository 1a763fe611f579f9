"""The registry of filters: functions that score rows. A band in the recipe decides.

    @row_filter("shouting", unit="share of letters", band=Band(max=0.5))
    def shouting(rows: pl.DataFrame) -> pl.Series:
        \"\"\"Share of the chosen answer's letters that are capitals.\"\"\"
        text = rows["chosen"]
        return text.str.count_matches("[A-Z]") / text.str.count_matches("[A-Za-z]")

rows has the columns of curation/columns.py: row_id, prompt_id, prompt, chosen, rejected (text),
p, weight, margin. Keyword arguments with defaults are the filter's parameters in a recipe. A
score of None (or NaN) abstains.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from prefkit.core.errors import ConfigError
from prefkit.core.registry import Registry, did_you_mean


@dataclass(frozen=True, slots=True)
class Band:
    """The scores that stay, both ends included; None leaves an end open."""

    min: float | None = None
    max: float | None = None

    def __str__(self) -> str:
        if self.min is None:
            return "any score" if self.max is None else f"at most {self.max:g}"
        return f"at least {self.min:g}" if self.max is None else f"{self.min:g} to {self.max:g}"


@dataclass(frozen=True, slots=True)
class Scores:
    """What a set filter gives: scores (n,), and the row_id each one was matched with, or None."""

    values: pl.Series
    matched_row: pl.Series | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter and its facts.

    kind row: a row's score depends on that row alone and is computed for every input row. kind
    set: it depends on the other rows, and only those that passed all stages before are seen:
    else a row could fall as the copy of one that is gone itself.
    """

    name: str
    kind: Literal["row", "set"]
    function: Callable[..., Any]
    unit: str
    band: Band
    about: str
    parameters: Mapping[str, Any]

    def check_parameters(self, given: Mapping[str, Any]) -> None:
        """ConfigError for a parameter this filter does not have, or one of another type."""
        for name, value in given.items():
            if name not in self.parameters:
                known = list(self.parameters)
                raise ConfigError(
                    f"filter {self.name!r} has no parameter {name!r}{did_you_mean(name, known)}",
                    hint=f"known: {', '.join(known) or 'none'}",
                )
            default = self.parameters[name]
            fits = isinstance(value, type(default)) and isinstance(value, bool) == isinstance(
                default, bool
            )
            if not fits and not (isinstance(default, float) and type(value) is int):
                raise ConfigError(
                    f"filter {self.name!r}: {name} is {value!r}; "
                    f"expected {type(default).__name__}, for example {default!r}"
                )


FILTERS: Registry[Filter] = Registry("filter", "prefkit.filters")
F = Callable[..., Any]


def row_filter(name: str, *, unit: str, band: Band) -> Callable[[F], F]:
    """Register a function ``(rows, *, parameters) -> scores (n,)``; band is its default."""
    return _register(name, "row", unit, band)


def set_filter(name: str, *, unit: str, band: Band) -> Callable[[F], F]:
    """Register a function ``(rows, *, parameters) -> Scores`` that compares rows."""
    return _register(name, "set", unit, band)


def _register(name: str, kind: Literal["row", "set"], unit: str, band: Band) -> Callable[[F], F]:
    def register(function: F) -> F:
        about = (function.__doc__ or "").strip().split("\n")[0]
        parameters = {
            parameter.name: parameter.default
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        FILTERS.add(name, Filter(name, kind, function, unit, band, about, parameters))
        return function

    return register
