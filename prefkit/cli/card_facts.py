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
    from prefkit.aggregation.interval import Estimate
    from prefkit.core.records import Vote
    from prefkit.formats.card import CardFacts, Guideline, RaterFacts, Share

_JUDGED = ("a", "b", "tie", "both_bad")
_MS_A_HOUR = 3_600_000
_MEASURES = {
    "alpha": "Krippendorff's α, ordinal",
    "kappa": "κ with quadratic weights, over every two raters",
    "ac1": "Gwet's AC1",
}


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
        agreement=_agreement(ballots, standing),
        bias=_bias(ballots),
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


def _bias(ballots: Ballots) -> list[Share]:
    """What pulled raters' votes; pulls that no vote could show are left out."""
    from prefkit.aggregation.bias import bias_table
    from prefkit.annotation.lead import on_labels_and_repeats
    from prefkit.formats.card import Share

    votes = on_labels_and_repeats([*ballots.votes, *ballots.hidden])
    return [
        Share(
            bias.about,
            bias.share.value,
            _interval(bias.share),
            bias.n_votes,
            "" if bias.odds is None else _estimate(bias.odds, ".2f"),
        )
        for bias in bias_table(votes, ballots.comparisons)
        if bias.share is not None
    ]


def _agreement(ballots: Ballots, standing: Iterable[Vote]) -> list[str]:
    """How far raters agree, a line of Markdown a measure; none without people's votes."""
    from prefkit.aggregation.agreement import agreement
    from prefkit.aggregation.table import vote_table
    from prefkit.annotation.lead import on_labels

    judged = [vote for vote in on_labels(standing) if vote.choice in _JUDGED]
    if not judged:
        return []
    found = agreement(vote_table(ballots.comparisons, judged))
    scale = "graded from −3 to 3" if found.scale == "graded" else "taken by side"
    lines = [
        f"{found.n_votes} votes on {found.n_comparisons} comparisons with two votes or more, "
        f"{scale}; 95 % intervals by resampling comparisons.",
        "",
    ]
    for name, title in _MEASURES.items():
        estimate: Estimate | None = getattr(found, name)
        said = f"undefined: {found.why[name]}" if estimate is None else _estimate(estimate, ".3f")
        lines.append(f"- {title}: {said}")
    return lines


def _interval(estimate: Estimate) -> tuple[float, float] | None:
    if estimate.low is None or estimate.high is None:
        return None
    return estimate.low, estimate.high


def _estimate(estimate: Estimate, form: str) -> str:
    span = _interval(estimate)
    value = format(estimate.value, form)
    return value if span is None else f"{value} ({span[0]:{form}} to {span[1]:{form}})"


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
