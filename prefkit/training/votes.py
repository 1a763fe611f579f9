"""The raw votes of a row as the ``votes`` loss reads them: what each gives to the chosen answer.

A row's votes are a JSON list, as aggregation writes it: {"choice": "a" | "b" | "tie"} or, from
machines, {"p_a": 0.8}; "chosen" and "rejected" do as well. "error_rate" in [0, 0.5) is the rater's
chance of saying the opposite of what a perfect rater would say. a and b are the slots of the
comparison; the row's evidence says which of them became chosen ("chosen_slot"), a if it is silent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefkit.core.errors import DataError

SHARES = {"a": 1.0, "b": 0.0, "chosen": 1.0, "rejected": 0.0, "tie": 0.5}
# Votes that say something else than which answer is better (architecture: Records).
WITHOUT_SIDE = ("both_bad", "invalid", "skip", "withdrawn")


@dataclass(frozen=True, slots=True)
class RowVote:
    """share: in [0, 1], what the vote gives to chosen. error_rate: in [0, 0.5), None if unknown."""

    share: float
    error_rate: float | None


def read_votes(votes: str | None, evidence: str | None, *, row: str) -> tuple[RowVote, ...]:
    """The votes of row ``row`` that take a side; () where it has none. DataError names the row."""
    if votes is None:
        return ()
    entries = _json(votes, row, "votes")
    if not isinstance(entries, list):
        raise DataError(f"row {row}: votes is not a JSON list")
    facts = _json(evidence, row, "evidence") if evidence else {}
    swapped = isinstance(facts, dict) and facts.get("chosen_slot") == "b"
    found = [_vote(entry, swapped, row) for entry in entries]
    return tuple(vote for vote in found if vote is not None)


def _vote(entry: object, swapped: bool, row: str) -> RowVote | None:
    if not isinstance(entry, dict):
        raise DataError(f"row {row}: a vote is {entry!r}; expected an object with a choice")
    error = _number(entry, "error_rate", row)
    if error is not None and not 0 <= error < 0.5:
        raise DataError(f"row {row}: error_rate is {error}; expected 0 to below 0.5")
    p_a = _number(entry, "p_a", row)
    choice = entry.get("choice")
    if p_a is not None and entry.get("kind") != "human":
        share, by_slot = p_a, True
    elif isinstance(choice, str) and choice in SHARES:
        share, by_slot = SHARES[choice], choice in ("a", "b")
    elif choice in WITHOUT_SIDE:
        return None
    else:
        raise DataError(f"row {row}: a vote's choice is {choice!r}; expected {', '.join(SHARES)}")
    if not 0 <= share <= 1:
        raise DataError(f"row {row}: p_a is {share}; expected 0 to 1")
    return RowVote(1 - share if by_slot and swapped else share, error)


def _number(entry: Mapping[str, Any], name: str, row: str) -> float | None:
    value = entry.get(name)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise DataError(f"row {row}: a vote's {name} is {value!r}; expected a number")


def _json(text: str, row: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise DataError(f"row {row}: {what} is not JSON: {text[:40]!r}") from None
