"""A report is one safe file whose plots say what the numbers say."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_pages import AT, EVIL, by_class, full_page, plots

from prefkit.core.errors import DataError
from prefkit.report import Bar, Report
from prefkit.report.untrusted import BIDI_OVERRIDES, visible


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_hostile_text_adds_no_tag_to_any_block():
    tame = [tag for tag, _ in Tags(full_page("plain").html()).found]
    wild = [tag for tag, _ in Tags(full_page(EVIL).html()).found]
    # A label cut to fit its gutter gets a <title> with the whole of it, inside the plot.
    assert [t for t in wild if t != "title"] == [t for t in tame if t != "title"]
    assert "script" in tame
    assert wild.count("script") == 1


def test_hostile_text_leaves_no_control_character():
    html = full_page(EVIL).html()
    assert "\x1b" not in html
    assert not set(BIDI_OVERRIDES) & set(html)


@given(st.text())
def test_visible_text_keeps_everything_else(text):
    safe = visible(text)
    safe.encode("utf-8")
    assert visible(safe) == safe
    assert all(c in "\n\t" or ord(c) >= 32 for c in safe)
    assert visible("é 👩‍👩‍👧 日本\n\tx") == "é 👩‍👩‍👧 日本\n\tx"


def test_the_page_names_no_other_file_or_host():
    for tag, attributes in Tags(full_page().html()).found:
        assert tag not in ("link", "img", "iframe", "object", "embed", "form", "base")
        assert not {"src", "href", "action", "style", "onclick"} & set(attributes)


def test_the_policy_allows_exactly_the_style_and_script_of_the_page():
    html = full_page().html()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy
    for tag in ("style", "script"):
        body = re.search(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert body
        digest = base64.b64encode(hashlib.sha256(body.group(1).encode()).digest()).decode()
        # Autoescape writes quotes and the base64 plus sign as entities in the attribute.
        assert f"sha256-{digest}" in policy.group(1).replace("&#39;", "'").replace("&#43;", "+")
    assert "default-src &#39;none&#39;" in policy.group(1)


def test_every_plot_has_a_title_a_description_and_its_numbers_as_a_table():
    html = full_page("a plot").html()
    drawn = plots(html)
    assert len(drawn) == 3
    for plot in drawn:
        assert plot.get("role") == "img"
        assert plot.get("aria-label")
        assert [child.tag for child in plot][:2] == ["title", "desc"]
    assert html.count("<summary>the numbers</summary>") == 3


@given(st.lists(st.integers(0, 500), max_size=6), st.integers(0, 1000))
def test_a_waterfall_falls_from_what_came_in_to_what_was_kept(counts, n_kept):
    dropped = {f"reason {i}": n for i, n in enumerate(counts)}
    n_in = n_kept + sum(counts)
    (plot,) = plots(Report("t", at=AT).waterfall(n_in, dropped, title="w").html())
    (start,) = by_class(plot, "fall-in")
    (end,) = by_class(plot, "fall-kept")
    total = float(start.get("width", 0))
    if n_in:
        assert float(end.get("width", 0)) == pytest.approx(total * n_kept / n_in, abs=1.2)
    left = float(start.get("x", 0)) + total
    for step, count in zip(by_class(plot, "fall-dropped"), counts, strict=True):
        width = float(step.get("width", 0))
        if count:
            assert float(step.get("x", 0)) + width == pytest.approx(left, abs=1.3)
            left = float(step.get("x", 0))


def test_more_dropped_than_came_in_is_refused():
    with pytest.raises(ValueError, match="5 rows in, but 6 dropped"):
        Report("t").waterfall(5, {"tie": 6}, title="w")


@given(st.floats(0, 1), st.floats(0, 0.3))
def test_a_bar_ends_at_its_value_inside_its_interval(value, half):
    low, high = max(value - half, 0.0), min(value + half, 1.0)
    bar = Bar("round 1", value, low, high)
    (plot,) = plots(Report("t").bar_plot([bar], title="win rate", reference=0.5).html())
    (drawn,) = by_class(plot, "bar")
    (line,) = by_class(plot, "reference")
    start = float(drawn.get("x", 0))
    end = start + float(drawn.get("width", 0))
    whisker = [float(e.get("x1", 0)) for e in by_class(plot, "whisker")]
    assert min(whisker) - 0.2 <= end <= max(whisker) + 0.2
    middle = float(line.get("x1", 0))
    # The end of the bar lies on the same side of the line as its value of one half.
    assert (end - middle) * (value - 0.5) >= -1e-6 or abs(end - middle) <= 0.2


def test_points_without_a_value_are_left_out_and_counted():
    series = {"loss": [(1, 0.7), (2, None), (3, float("nan")), (4, 0.5)]}
    html = Report("t").line_plot(series, title="l", x_label="step", y_label="loss").html()
    (plot,) = plots(html)
    assert len(by_class(plot, "dot")) == 2
    assert "2 points without a value left out." in html
    assert "nan" not in html.lower().split("</style>")[1]


def test_a_plot_of_nothing_says_so():
    page = Report("t").line_plot({}, title="l", x_label="x", y_label="y").bar_plot([], title="b")
    assert page.html().count("No values to draw.") == 2


def test_counted_x_values_get_whole_ticks():
    html = Report("t").line_plot(
        {"a": [(1, 0.1), (2, 0.2), (4, 0.3)]}, title="l", x_label="round", y_label="y"
    )
    (plot,) = plots(html.html())
    marks = [e.text for e in by_class(plot, "tick") if e.get("text-anchor") == "middle"]
    assert marks == ["1", "2", "3", "4"]


def test_a_report_is_small_and_the_same_for_the_same_content(tmp_path):
    one = full_page().write(tmp_path / "one.html")
    two = full_page().write(tmp_path / "two.html")
    assert one.read_bytes() == two.read_bytes()
    assert one.stat().st_size < 40_000


def test_writing_below_a_file_names_the_path(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        Report("t").write(tmp_path / "file" / "report.html")


def test_the_axis_label_stands_clear_of_long_tick_labels():
    series = {"rate": [(1, 4.4e-05), (2, 5.6e-05)]}
    page = Report("t").line_plot(series, title="rate", x_label="step", y_label="rate")
    (plot,) = plots(page.html())
    ticks = [e for e in by_class(plot, "tick") if e.get("text-anchor") == "end"]
    assert any("e-05" in (tick.text or "") for tick in ticks)
    # 6.6 px a glyph; the turned label's middle is at 14 px and its glyphs are 12 px high.
    assert min(float(e.get("x", 0)) - 6.6 * len(e.text or "") for e in ticks) >= 14 + 6
