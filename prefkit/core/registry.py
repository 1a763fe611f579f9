"""Named functions with facts: how losses, filters, pairings, raters and aggregators are found."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from prefkit.core.errors import ConfigError

T = TypeVar("T")


def did_you_mean(name: str, known: list[str]) -> str:
    """``; did you mean 'x'?`` for a near miss, else an empty text."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class Registry(Generic[T]):
    """Entries of one kind by name, kept in the order of registration.

    ``kind`` is the word used in messages ("filter"), ``group`` the entry-point group through
    which third parties add theirs (loaded on the first look-up that misses).
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._entries: dict[str, T] = {}
        self._plugins_loaded = False

    def add(self, name: str, entry: T) -> T:
        """Register ``entry`` under ``name``; ConfigError if the name is taken."""
        if name in self._entries:
            raise ConfigError(f"{self.kind} {name!r} is registered twice")
        self._entries[name] = entry
        return entry

    def decorator(self, name: str) -> Callable[[T], T]:
        """``@registry.decorator("name")`` registers the decorated object as it is."""
        return lambda entry: self.add(name, entry)

    def get(self, name: str) -> T:
        """The entry; ConfigError that lists the known names if there is none."""
        if name not in self._entries:
            self._load_plugins()
        if name not in self._entries:
            known = list(self._entries)
            raise ConfigError(
                f"unknown {self.kind} {name!r}{did_you_mean(name, known)}",
                hint=f"known: {', '.join(known)}",
            )
        return self._entries[name]

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        for point in entry_points(group=self.group):
            point.load()

    def names(self) -> list[str]:
        """All names, those of installed plug-ins included."""
        self._load_plugins()
        return list(self._entries)

    def __iter__(self) -> Iterator[tuple[str, T]]:
        self._load_plugins()
        return iter(list(self._entries.items()))

    def __contains__(self, name: object) -> bool:
        if name not in self._entries:
            self._load_plugins()
        return name in self._entries
