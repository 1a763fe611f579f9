"""What a reader of another tool's export gives: rows of pairs, and who said what of which row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prefkit.core.errors import DataError
from prefkit.formats.rows import Rows

_MOST_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user said about an export.

    mapping: our column → theirs. question: the question that compares the two answers; rationale:
    the one that asks for reasons. prompt: what was asked, for rows that do not say it. items: the
    rows that the tool was given, where its export does not repeat them. source: the name under
    which raters are known, None for the tool's own. skip_bad: leave malformed rows out.
    """

    mapping: Mapping[str, str] = field(default_factory=dict[str, str])
    question: str | None = None
    rationale: str | None = None
    prompt: str | None = None
    items: Rows | None = None
    source: str | None = None
    skip_bad: bool = False


@dataclass(frozen=True, slots=True)
class Ranks:
    """Names of answers by rank, 1 the best; equal ranks are a tie."""

    of: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Level:
    """A place on a scale: below 0 the first answer is better, above 0 the second."""

    value: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one rater said of one row. said: None where they skipped it."""

    row: int
    place: str
    rater: str
    said: str | Ranks | Level | None
    at: datetime | None = None
    active_ms: int | None = None
    rationale: str | None = None


@dataclass(slots=True)
class Source:
    """What was read. rows: the pairs, by our or their names.

    name: what raters of this source are told apart by. bad_rows: what is wrong with a row, by its
    number. faults: place and fault of each malformed judgement; left_out: place and reason of each
    well-formed one that is no vote.
    """

    rows: Rows
    name: str
    judgements: list[Judgement] = field(default_factory=list[Judgement])
    bad_rows: dict[int, str] = field(default_factory=dict[int, str])
    faults: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    left_out: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


def the_question(names: Iterable[str], asked: Asked, where: str) -> str:
    """The question that compares the answers; DataError where it is not certain."""
    known = [name for name in dict.fromkeys(names) if name != asked.rationale]
    if asked.question is not None:
        if asked.question not in known:
            raise DataError(
                f"{where}: no answers to a question {asked.question!r}",
                hint=f"questions: {', '.join(known) or 'none'}",
            )
        return asked.question
    if len(known) != 1:
        raise DataError(
            f"{where}: {'several questions' if known else 'no question'} that may compare the "
            f"two answers{': ' + ', '.join(known) if known else ''}",
            hint=f"say which: --question {known[0]}" if known else "is this the right file?",
        )
    return known[0]


def moment(value: Any, what: str) -> datetime | None:
    """A time out of ISO text (UTC where it names no zone); None where it is missing."""
    if value in (None, ""):
        return None
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        return (found.replace(tzinfo=UTC) if found.tzinfo is None else found).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{what} is {value!r}; expected a time such as 2026-01-31T12:00:00Z"
        ) from None


def milliseconds(seconds: Any) -> int | None:
    """A duration in milliseconds; None for what is missing, no number or longer than a day."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return round(seconds * 1000) if 0 <= seconds * 1000 <= _MOST_MS else None
