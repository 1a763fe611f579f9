"""What a dataset card says of a workspace's votes, counted from them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from prefkit.cli.source import Ballots

if TYPE_CHECKING:
    from prefkit.core.records import Comparison, Vote
    from prefkit.formats.card import CardFacts, Guideline, RaterFacts, Share

_SIDED = ("a", "b")
_MS_A_HOUR = 3_600_000


def card_facts(
    ballots: Ballots,
    *,
    path: Path,
    about: str,
    columns: Sequence[str],
    n_rows: int,
    method: str,
    rationales: bool,
) -> CardFacts:
    """The facts of an export of ``ballots`` to ``path``. method: how p was made, in words."""
    from prefkit import __version__
    from prefkit.aggregation.votes import counted_votes, standing_votes
    from prefkit.formats.card import CardFacts

    standing, _ = standing_votes(ballots.votes)
    counted = counted_votes(ballots.comparisons, ballots.votes)
    heard = Counter(vote.comparison_id for vote in counted.votes)
    people = [vote for vote in standing if vote.rater_kind == "human" and vote.choice != "skip"]
    times = [vote.active_ms for vote in people if vote.active_ms is not None]
    overlap = Counter(heard[comparison.id] for comparison in ballots.comparisons)
    return CardFacts(
        name=path.stem,
        file=path.name,
        about=about,
        n_rows=n_rows,
        columns=columns,
        version=__version__,
        date=datetime.now(UTC).date().isoformat(),
        method=method,
        n_comparisons=len(ballots.comparisons),
        n_with_preference=len(heard),
        votes_a_comparison=dict(sorted(overlap.items())),
        choices=dict(Counter(vote.choice for vote in standing).most_common()),
        raters=_raters(standing),
        bias=_bias(ballots.comparisons, people),
        hours=sum(times) / _MS_A_HOUR if times else None,
        n_untimed=len(people) - len(times),
        guidelines=_guidelines(people, ballots),
        rationales=rationales,
    )


def _raters(standing: Iterable[Vote]) -> list[RaterFacts]:
    from prefkit.formats.card import RaterFacts

    of_rater: defaultdict[tuple[str, str], list[Vote]] = defaultdict(list)
    for vote in standing:
        of_rater[vote.rater, vote.rater_kind].append(vote)
    found: list[RaterFacts] = []
    for (rater, kind), votes in sorted(of_rater.items()):
        times = [vote.active_ms for vote in votes if vote.active_ms is not None]
        seconds = median(times) / 1000 if times else None
        found.append(RaterFacts(rater, kind, len(votes), seconds))
    return found


def _bias(comparisons: Iterable[Comparison], people: Iterable[Vote]) -> list[Share]:
    """How often the left answer and the longer one were preferred, with Wilson intervals."""
    longer = {c.id: _longer(c) for c in comparisons}
    sided = [vote for vote in people if vote.choice in _SIDED]
    seen = [vote.choice == vote.shown_first for vote in sided if vote.shown_first is not None]
    lengths = [
        vote.choice == longer[vote.comparison_id]
        for vote in sided
        if longer.get(vote.comparison_id) is not None
    ]
    shares = (_share("the left answer", seen), _share("the longer answer", lengths))
    return [share for share in shares if share is not None]


def _longer(comparison: Comparison) -> str | None:
    a, b = len(comparison.a.text), len(comparison.b.text)
    return None if a == b else ("a" if a > b else "b")


def _share(name: str, outcomes: Sequence[bool]) -> Share | None:
    from prefkit.annotation.quality import wilson
    from prefkit.formats.card import Share

    found = wilson(sum(outcomes), len(outcomes))
    return None if found is None else Share(name, found.value, found.low, found.high, found.n)


def _guidelines(people: Iterable[Vote], ballots: Ballots) -> list[Guideline]:
    """What raters read, the text of most votes first."""
    from prefkit.formats.card import Guideline

    versions = Counter(vote.guideline_version for vote in people if vote.guideline_version)
    return [
        Guideline(version, n, ballots.guidelines.get(version))
        for version, n in versions.most_common()
    ]


def with_rationales(votes: str, words: dict[str, str]) -> str:
    """The JSON of a preference's votes, each with what its rater wrote; words: by vote id."""
    import json

    entries: list[dict[str, Any]] = json.loads(votes)
    for entry in entries:
        if entry.get("id") in words:
            entry["rationale"] = words[entry["id"]]
    return json.dumps(entries, ensure_ascii=False)
