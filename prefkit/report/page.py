"""A report as one HTML file: built block by block, written whole.

The file needs nothing else: styles, plots and the copy button are inside, a content security
policy forbids every request, and what a model wrote is escaped. It knows nothing of rounds or
training; who builds a report says what the numbers mean.

    report = Report("Demo, seed 0", subtitle="SmolLM2-135M-Instruct, two rounds")
    report.facts({"prompts": 400, "votes": 612})
    report.bar_plot([Bar("round 1", 0.58, 0.52, 0.63)], title="Win rate", reference=0.5)
    report.write(Path("report.html"))
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Literal, Self

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from prefkit.core.files import write_text
from prefkit.report.plots import Bar, bar_plot, interval_text, line_plot, waterfall
from prefkit.report.scale import label
from prefkit.report.untrusted import visible

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt with the answer before and after; ``verdict`` says which won, None if unknown.

    note: a few words under the verdict (why), or an empty text.
    """

    prompt: str
    before: str
    after: str
    verdict: Literal["after", "before", "tie"] | None = None
    note: str = ""


class Report:
    """Blocks in the order in which they were added; every method returns the report.

    ``at`` is shown as the time of making, aware UTC; now where None.
    """

    def __init__(self, title: str, *, subtitle: str = "", at: datetime | None = None) -> None:
        self.title = title
        self.subtitle = subtitle
        self.at = (at or datetime.now(UTC)).astimezone(UTC)
        self._blocks: list[dict[str, object]] = []

    def heading(self, title: str, text: str = "") -> Self:
        """A section: a heading and an optional paragraph."""
        return self._add("heading", title, note=text)

    def facts(self, facts: Mapping[str, Value], *, title: str = "") -> Self:
        """Names and values as tiles; a None value shows as a dash."""
        return self._add("facts", title, facts=[(name, shown(v)) for name, v in facts.items()])

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[Value]],
        *,
        title: str = "",
        note: str = "",
    ) -> Self:
        """A table; columns of numbers are set right."""
        return self._add("table", title, note=note, table=_table(header, rows))

    def line_plot(
        self,
        series: Mapping[str, Sequence[tuple[float, float | None]]],
        *,
        title: str,
        x_label: str,
        y_label: str,
        reference: float | None = None,
        note: str = "",
    ) -> Self:
        """Lines by name, each of (x, y); a y of None or not finite is left out and counted."""
        drawn, n_left_out = _drawable(series)
        if n_left_out:
            points = "1 point" if n_left_out == 1 else f"{n_left_out} points"
            note = f"{note} {points} without a value left out.".strip()
        if not drawn:
            return self._add("empty", title, note=note or "No values to draw.")
        plot = line_plot(drawn, title=title, x_label=x_label, y_label=y_label, reference=reference)
        rows = [(name, x, y) for name, points in drawn.items() for x, y in points]
        return self._add(
            "plot",
            title,
            note=note,
            plot=plot,
            legend=list(drawn) if len(drawn) > 1 else [],
            table=_table(("line", x_label, y_label), rows),
        )

    def bar_plot(
        self,
        bars: Sequence[Bar],
        *,
        title: str,
        y_label: str = "",
        reference: float | None = None,
        percent: bool = True,
        note: str = "",
    ) -> Self:
        """Bars with intervals and a dashed line at ``reference``; shares show as per cent."""
        if not bars:
            return self._add("empty", title, note=note or "No values to draw.")
        name = y_label or title
        # The heading already says what a bar is: without a y_label the axis stays bare.
        plot = bar_plot(bars, title=title, y_label=y_label, reference=reference, percent=percent)
        rows = [(bar.label, interval_text(bar, percent=percent)) for bar in bars]
        table = _table(("", f"{name} [95 % interval]"), rows)
        return self._add("plot", title, note=note, plot=plot, legend=[], table=table)

    def waterfall(
        self,
        n_in: int,
        dropped: Mapping[str, int],
        *,
        title: str,
        unit: str = "rows",
        note: str = "",
    ) -> Self:
        """What came in, what each reason dropped, what was kept: in = kept + dropped.

        Raises ValueError where more was dropped than came in.
        """
        n_kept = n_in - sum(dropped.values())
        if n_kept < 0:
            raise ValueError(f"{n_in} {unit} in, but {n_in - n_kept} dropped")
        plot = waterfall(n_in, dropped, title=title, unit=unit)
        rows: list[tuple[Value, ...]] = [("came in", n_in), *dropped.items(), ("kept", n_kept)]
        table = _table(("", unit), rows)
        return self._add("plot", title, note=note, plot=plot, legend=[], table=table)

    def samples(
        self,
        samples: Sequence[Sample],
        *,
        title: str,
        before: str = "before",
        after: str = "after",
        note: str = "",
    ) -> Self:
        """Prompts with two answers side by side, named ``before`` and ``after``."""
        return self._add(
            "samples", title, note=note, samples=list(samples), before=before, after=after
        )

    def code(self, title: str, text: str, *, note: str = "") -> Self:
        """Code as it is to be pasted, with a copy button."""
        return self._add("code", title, note=note, code=text.strip("\n"))

    def html(self) -> str:
        """The whole page."""
        template = _environment().get_template("page.html.j2")
        css, script = _asset("page.css"), _asset("page.js")
        return template.render(
            title=self.title,
            subtitle=self.subtitle,
            at=self.at,
            blocks=self._blocks,
            css=Markup(css),
            script=Markup(script),
            policy=_policy(css, script),
        )

    def write(self, path: Path) -> Path:
        """Write the page, whole or not at all; the path it has."""
        write_text(path, self.html())
        return path

    def _add(self, kind: str, title: str, **content: object) -> Self:
        number = len(self._blocks) + 1
        self._blocks.append({"kind": kind, "title": title, "number": number, "note": "", **content})
        return self


def shown(value: Value) -> str:
    """A cell or tile as text: thin spaces in thousands, four digits, a dash for None."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return label(value)
    return value


def _drawable(
    series: Mapping[str, Sequence[tuple[float, float | None]]],
) -> tuple[dict[str, list[tuple[float, float]]], int]:
    drawn = {
        name: [(float(x), float(y)) for x, y in points if y is not None and math.isfinite(y)]
        for name, points in series.items()
    }
    n_left_out = sum(map(len, series.values())) - sum(map(len, drawn.values()))
    return {name: points for name, points in drawn.items() if points}, n_left_out


def _table(header: Sequence[str], rows: Sequence[Sequence[Value]]) -> dict[str, object]:
    """Cells as text, and for each column whether it holds numbers."""
    numeric = [
        all(isinstance(row[i], int | float) or row[i] is None for row in rows) and bool(rows)
        for i in range(len(header))
    ]
    return {
        "header": list(header),
        "rows": [[shown(value) for value in row] for row in rows],
        "numeric": numeric,
    }


def _policy(css: str, script: str) -> str:
    """A content security policy that allows this page's own style and script and nothing else."""
    return (
        f"default-src 'none'; style-src '{_source(css)}'; script-src '{_source(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("prefkit.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Every value that the template prints passes here first; markup of our own stays as it is.
        finalize=lambda value: visible(value) if type(value) is str else value,
    )


@cache
def _asset(name: str) -> str:
    source = _environment().loader
    assert source is not None
    return source.get_source(_environment(), name)[0].strip()
