"""The dataset card of an export: a README.md as the Hugging Face Hub reads it.

It says how the labels came about: raters, agreement, bias, time, what raters were told. Raters
stand under their ids, never under names; it holds no word that a rater wrote.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True, slots=True)
class Share:
    """What pulls votes: the share that went its way, of n; interval: of 95 %, None without one.

    odds: the factor it gives with the other pulls held equal, in words; "" where not fitted.
    """

    about: str
    value: float
    interval: tuple[float, float] | None
    n: int
    odds: str = ""


@dataclass(frozen=True, slots=True)
class RaterFacts:
    """One rater by id. median_seconds: of a vote, None where the time is not known."""

    rater: str
    kind: str
    n_votes: int
    median_seconds: float | None


@dataclass(frozen=True, slots=True)
class Guideline:
    """What raters were told: a version, how many votes were cast under it, its text if known."""

    version: str
    n_votes: int
    text: str | None


@dataclass(frozen=True, slots=True)
class CardFacts:
    """All that a card says.

    columns: name → what it holds. choices: of the votes that stand. agreement: lines of Markdown,
    none where it was not computed. rationales: whether the file holds what raters wrote.
    """

    name: str
    file: str
    about: str
    n_rows: int
    columns: Sequence[str]
    version: str
    date: str
    method: str
    n_comparisons: int
    n_with_preference: int
    votes_a_comparison: Mapping[int, int]
    choices: Mapping[str, int]
    raters: Sequence[RaterFacts]
    bias: Sequence[Share] = ()
    agreement: Sequence[str] = ()
    hours: float | None = None
    n_untimed: int = 0
    guidelines: Sequence[Guideline] = field(default_factory=tuple[Guideline, ...])
    rationales: bool = False


def dataset_card(facts: CardFacts) -> str:
    """The card as Markdown, with the header that the Hub reads."""
    parts = [
        _header(facts),
        f"# {_one_line(facts.name)}",
        _opening(facts),
        "## Labels",
        _labels(facts),
        *_section("## Agreement", "\n".join(facts.agreement)),
        "## Raters",
        _raters(facts),
        *_section("## Bias", _bias(facts.bias)),
        *_section("## Time", _time(facts)),
        *_section("## What raters were told", _guidelines(facts.guidelines)),
        "## Columns",
        ", ".join(f"`{name}`" for name in facts.columns),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, body: str) -> list[str]:
    return [title, body] if body else []


def _header(facts: CardFacts) -> str:
    # JSON text is YAML: a file's name may hold a colon or a quote.
    size = next((word for most, word in _SIZES if facts.n_rows < most), "n>1M")
    return "\n".join(
        [
            "---",
            "tags: [preference, human-feedback, prefkit]",
            f"size_categories: [{size}]",
            "configs:",
            "  - config_name: default",
            f"    data_files: {json.dumps(facts.file)}",
            "---",
        ]
    )


def _opening(facts: CardFacts) -> str:
    return (
        f"{facts.n_rows} rows ({facts.about}), written on {facts.date} by prefkit "
        f"{facts.version} from {facts.n_comparisons} comparisons of two answers, of which "
        f"{facts.n_with_preference} have a preference. Probabilities are by {facts.method}."
    )


def _labels(facts: CardFacts) -> str:
    overlap = [[str(k), str(n)] for k, n in sorted(facts.votes_a_comparison.items())]
    choices = [[name.replace("_", " "), str(n)] for name, n in facts.choices.items()]
    said = "what raters wrote (rationales) is in the column `votes`"
    return "\n\n".join(
        [
            _table(["votes for a side or a tie", "comparisons"], overlap),
            _table(["choice", "votes that stand"], choices),
            f"In this file {said}." if facts.rationales else "What raters wrote is left out.",
        ]
    )


def _raters(facts: CardFacts) -> str:
    people = [rater for rater in facts.raters if rater.kind == "human"]
    machines = len(facts.raters) - len(people)
    rows = [
        [f"`{r.rater}`", r.kind, str(r.n_votes), _seconds(r.median_seconds)] for r in facts.raters
    ]
    counted = f"{len(people)} {'person' if len(people) == 1 else 'people'}"
    if machines:
        counted += f" and {machines} machine{'s' * (machines > 1)}"
    header = ["rater", "kind", "votes that stand", "median seconds a vote"]
    return f"{counted}, under opaque ids.\n\n{_table(header, rows)}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _bias(shares: Sequence[Share]) -> str:
    if not shares:
        return ""
    rows = [[s.about, f"{s.value:.3f}", _span(s.interval), str(s.n), s.odds or "–"] for s in shares]
    header = [
        "of people's votes for a side",
        "share",
        "95 % interval",
        "votes",
        "factor on the odds",
    ]
    said = (
        "One half is no pull, and a factor of 1. Only the left side is drawn by lot: a longer "
        "answer may well be the better one."
    )
    return f"{_table(header, rows)}\n\n{said}"


def _span(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _time(facts: CardFacts) -> str:
    if facts.hours is None:
        return ""
    said = f"{facts.hours:.1f} hours of people's time with a pair in view"
    return f"{said} ({facts.n_untimed} votes without a time)." if facts.n_untimed else f"{said}."


def _guidelines(guidelines: Sequence[Guideline]) -> str:
    parts: list[str] = []
    for guideline in guidelines:
        parts.append(f"Version `{guideline.version}`, {guideline.n_votes} votes:")
        text = "(its text was not kept)" if guideline.text is None else guideline.text.rstrip("\n")
        # Quoted, so that a heading in it is none of this card's.
        parts.append("\n".join(f"> {line}".rstrip() for line in text.split("\n")))
    return "\n\n".join(parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|")


def _one_line(text: str) -> str:
    return " ".join(text.split())
