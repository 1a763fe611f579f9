"""The plots of the lead's page as SVG; None where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from itertools import accumulate

from prefkit.aggregation.agreement import Agreement
from prefkit.aggregation.bias import Bias
from prefkit.aggregation.speed import Speed
from prefkit.annotation.lead import Agreed, Overview, RaterLine
from prefkit.report.plots import Bar, bar_plot, line_plot

MOST_RATERS = 30


def progress(overview: Overview) -> str | None:
    """Votes so far by day, with what is wanted as a line across."""
    if not overview.days:
        return None
    first = date.fromisoformat(overview.days[0].day)
    days = [(date.fromisoformat(day.day) - first).days for day in overview.days]
    sums = list(accumulate(day.n_votes for day in overview.days))
    before = [(-1.0, 0.0)] if len(days) == 1 else []
    points = [*before, *((float(x), float(y)) for x, y in zip(days, sums, strict=True))]
    return str(
        line_plot(
            {"people's votes": points},
            title="Votes so far",
            x_label=f"days since {first.isoformat()}",
            y_label="votes",
            reference=float(overview.progress.wanted),
        )
    )


def agreement(agreed: Agreed) -> dict[str, str | None]:
    """α by slice and by week, each with its interval."""
    by_slice = {found.by: _alphas(found.groups, f"α by {found.by}") for found in agreed.slices}
    return {**by_slice, "weeks": _alphas(agreed.weeks, "α by week")}


def _alphas(groups: Mapping[str, Agreement], title: str) -> str | None:
    bars = [_alpha(name, found) for name, found in groups.items() if found.alpha is not None]
    if not bars:
        return None
    return str(bar_plot(bars, title=title, y_label="Krippendorff's α (1: no disagreement)"))


def _alpha(name: str, found: Agreement) -> Bar:
    assert found.alpha is not None
    low, high = found.alpha.low, found.alpha.high
    # As in the table below: the plot writes out what it is given.
    return Bar(
        name,
        round(found.alpha.value, 2),
        None if low is None else round(low, 2),
        None if high is None else round(high, 2),
    )


def bias(found: Sequence[Bias]) -> str | None:
    """The share of votes that went each pull's way, against a half."""
    bars = [
        Bar(each.name.replace("_", " "), each.share.value, each.share.low, each.share.high)
        for each in found
        if each.share is not None
    ]
    if not bars:
        return None
    return str(
        bar_plot(bars, title="What wins", y_label="share of votes", reference=0.5, percent=True)
    )


def speed(found: Sequence[Speed]) -> str | None:
    """Agreement with the others' majority, by fifths of the time in view."""
    if not found:
        return None
    bars = [
        Bar(
            f"{each.low_ms / 1000:.1f} to {each.high_ms / 1000:.1f} s",
            each.agreement.value,
            each.agreement.low,
            each.agreement.high,
        )
        for each in found
    ]
    label = "share of votes that are the others' majority"
    return str(bar_plot(bars, title="Agreement by time in view", y_label=label, percent=True))


def raters(lines: Sequence[RaterLine]) -> str | None:
    """Each rater's agreement with the majority of the others, for those with most votes."""
    bars = [
        Bar(line.facts.name or line.facts.rater, share.value, share.low, share.high)
        for line in lines
        if line.quality is not None and (share := line.quality.agreement) is not None
    ]
    if not bars:
        return None
    return str(
        bar_plot(
            bars[:MOST_RATERS],
            title="Agreement with the others",
            y_label="share of votes that are the others' majority",
            percent=True,
        )
    )
