"""The rater seam: what a machine that votes must do, and the registry of those that can.

A rater is a class (or a function) registered with ``register_rater``; it is called with the
RaterContext and gives an object with ``.compare(comparisons)``. Every registered rule is a rater
under its own name as well, so whoever can score one answer need not write a rater.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from prefkit.core.errors import ConfigError
from prefkit.core.progress import Progress
from prefkit.core.records import Comparison
from prefkit.core.registry import Registry, did_you_mean
from prefkit.judging.rule_rater import RuleRater
from prefkit.judging.rules import RULES
from prefkit.judging.settings import JudgeSettings
from prefkit.judging.votes import Judged


@dataclass(frozen=True, slots=True)
class RaterContext:
    """What a rater is made with: settings, a folder to keep work in, a way to say how far it is."""

    settings: JudgeSettings
    journal: Path
    progress: Progress


class Rater(Protocol):
    """A machine that votes."""

    def compare(self, comparisons: Sequence[Comparison]) -> Judged:
        """One vote a comparison, or a counted reason for none; never a default verdict."""
        ...


RaterFactory = Callable[[RaterContext], Rater]
F = TypeVar("F", bound=RaterFactory)
RATERS: Registry[RaterFactory] = Registry("rater", "prefkit.raters")


def register_rater(name: str) -> Callable[[F], F]:
    """``@register_rater("name")`` above a class makes ``--rater name`` work."""

    def register(factory: F) -> F:
        RATERS.add(name, factory)
        return factory

    return register


def make_rater(context: RaterContext) -> Rater:
    """The rater that the settings name; ConfigError, with the known names, for an unknown one."""
    name = context.settings.rater
    if name in RATERS.names():
        return RATERS.get(name)(context)
    if name in RULES.names():
        settings = context.settings
        return RuleRater(
            name, noise=settings.noise, seed=settings.seed, tie_below=settings.tie_below
        )
    raise unknown_rater(name)


def unknown_rater(name: str) -> ConfigError:
    """The fault of a name that ``rater_names`` does not hold."""
    known = rater_names()
    return ConfigError(
        f"unknown rater {name!r}{did_you_mean(name, known)}", hint=f"known: {', '.join(known)}"
    )


def rater_names() -> list[str]:
    """Every name that ``--rater`` takes."""
    return [*RULES.names(), *RATERS.names()]
