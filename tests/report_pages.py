"""A page with one block of each kind, and an XML view of any page's plots."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime

from prefkit.report import Bar, Report, Sample

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
EVIL = "<script>fetch('https://evil.example')</script><img src=x onerror=alert(1)>\x1b[2J\u202e"


def full_page(text: str = "plain") -> Report:
    """Every block, with ``text`` wherever a caller's words are shown."""
    page = Report(text, subtitle=text, at=AT)
    page.heading(text, text).facts({text: text, "votes": 1240, "seconds": None}, title=text)
    page.table([text, "n"], [[text, 1], ["b", None]], title=text, note=text)
    page.line_plot(
        {text: [(1, 0.7), (2, 0.6)], "other": [(1, 0.5)]},
        title=text, x_label=text, y_label=text, reference=0.69,
    )  # fmt: skip
    page.bar_plot([Bar(text, 0.6, 0.55, 0.65)], title=text, y_label=text, reference=0.5)
    page.waterfall(10, {text: 3, "tie": 2}, title=text, unit=text)
    page.samples([Sample(text, text, text, "after", text)], title=text, before=text, after=text)
    return page.code(text, text)


def plots(html: str) -> list[ET.Element]:
    """The plots of a page, parsed as XML: malformed markup fails here."""
    return [ET.fromstring(svg) for svg in re.findall(r"<figure>(<svg.*?</svg>)", html, re.DOTALL)]


def by_class(plot: ET.Element, name: str) -> list[ET.Element]:
    return [e for e in plot.iter() if name in e.get("class", "").split()]
