"""Plots as inline SVG: lines, bars with intervals, a waterfall. Colours live in page.css.

Every plot carries a title and a description for screen readers; page.py sets the same numbers
beside it as a table. All text is escaped: labels may come from a model or a file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from prefkit.report.scale import Axis, label, thin, ticks
from prefkit.report.untrusted import visible

WIDTH = 720
GLYPH = 6.6  # the mean advance of a 12 px sans-serif glyph, in pixels
N_COLOURS = 6
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Bar:
    """A value with its interval; ``low`` and ``high`` are None where there is none."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None


def line_plot(
    series: Mapping[str, Points],
    *,
    title: str,
    x_label: str,
    y_label: str,
    reference: float | None = None,
) -> Markup:
    """Lines over a shared x axis, at most N_COLOURS told apart by colour and dash."""
    height, right, top, bottom = 300, 14, 14, 46
    every = [point for points in series.values() for point in points]
    heights = [y for _, y in every] + ([] if reference is None else [reference])
    x_ticks = ticks(min(x for x, _ in every), max(x for x, _ in every), 7)
    y_ticks = ticks(min(heights), max(heights), 5)
    # The turned y label stands left of the longest tick.
    left = max(58.0, max(len(label(y)) for y in y_ticks) * GLYPH + 30)
    # x is not widened to round ticks: a curve should fill its frame.
    x_low, x_high = min(x for x, _ in every), max(x for x, _ in every)
    if x_low == x_high:
        x_low, x_high = x_ticks[0], x_ticks[-1]
    across = Axis(x_low, x_high, left, WIDTH - right)
    up = Axis(y_ticks[0], y_ticks[-1], height - bottom, top)
    # Steps, epochs and rounds are counted: no tick between two of them.
    counted = all(float(x).is_integer() for x, _ in every)
    inside = [
        tick
        for tick in x_ticks
        if x_low <= tick <= x_high and (float(tick).is_integer() or not counted)
    ]
    parts = [_grid(y_ticks, up, left, WIDTH - right)]
    parts += [_text(across(x), height - bottom + 18, label(x), "tick", "middle") for x in inside]
    parts.append(_text((left + WIDTH - right) / 2, height - 8, x_label, "axis", "middle"))
    parts.append(_turned(14, (top + height - bottom) / 2, y_label))
    if reference is not None:
        parts.append(_line(left, up(reference), WIDTH - right, up(reference), "reference"))
    for index, points in enumerate(series.values()):
        parts.append(_curve(thin(points), across, up, index % N_COLOURS))
    described = "; ".join(
        f"{name} goes from {label(points[0][1])} to {label(points[-1][1])}"
        for name, points in series.items()
    )
    return _svg(height, title, f"{y_label} against {x_label}. {described}.", parts)


def bar_plot(
    bars: Sequence[Bar],
    *,
    title: str,
    y_label: str,
    reference: float | None = None,
    percent: bool = False,
) -> Markup:
    """Horizontal bars from zero, each with its interval, and a dashed line at ``reference``."""
    row, top, bottom = 40, 10, 46 if y_label else 28
    height = top + row * len(bars) + bottom
    gutter = _gutter([bar.label for bar in bars])
    marks = [0.0] + ([] if reference is None else [reference])
    for bar in bars:
        marks += [value for value in (bar.value, bar.low, bar.high) if value is not None]
    scale = ticks(0.0, 1.0) if percent and max(marks) <= 1 else ticks(min(marks), max(marks))
    right = 150
    across = Axis(scale[0], scale[-1], gutter, WIDTH - right)
    end = height - bottom
    parts = [_line(across(x), top, across(x), end, "grid") for x in scale]
    parts += [
        _text(across(x), end + 18, label(x, percent=percent), "tick", "middle") for x in scale
    ]
    parts.append(_text((gutter + WIDTH - right) / 2, height - 8, y_label, "axis", "middle"))
    for index, bar in enumerate(bars):
        parts += _bar(bar, index, top + row * index + row / 2, across, gutter, percent)
    if reference is not None:
        parts.append(_line(across(reference), top - 6, across(reference), end, "reference"))
    described = "; ".join(f"{bar.label}: {interval_text(bar, percent=percent)}" for bar in bars)
    return _svg(height, title, f"{y_label or title}. {described}.", parts)


def waterfall(n_in: int, dropped: Mapping[str, int], *, title: str, unit: str) -> Markup:
    """What came in, what each reason took away, what was kept; a row each."""
    row, top = 30, 6
    n_kept = n_in - sum(dropped.values())
    height = top * 2 + row * (len(dropped) + 2)
    gutter = _gutter(["came in", "kept", *dropped])
    across = Axis(0, max(n_in, 1), gutter, WIDTH - 130)
    parts: list[Markup] = []
    left = n_in
    steps = [("came in", 0, n_in, "in"), *_steps(n_in, dropped), ("kept", 0, n_kept, "kept")]
    for index, (name, low, high, kind) in enumerate(steps):
        y = top + row * index
        parts.append(_text(gutter - 10, y + row / 2 + 4, _cut(name), "name", "end", full=name))
        width = max(across(high) - across(low), 1.0 if high > low else 0.0)
        parts.append(_tag("rect", klass=f"fall-{kind}", x=across(low), y=y + 5, width=width,
                          height=row - 10, rx=2))  # fmt: skip
        if kind == "dropped":
            left = low
        if index < len(steps) - 1:
            # The thread from the end of this step to the start of the next.
            x = across(left)
            parts.append(_line(x, y + row - 5, x, y + row + 5, "thread"))
        sign = "\N{MINUS SIGN}" if kind == "dropped" else ""
        shown = f"{sign}{label(high - low)}"
        if n_in and kind != "in":
            shown += f"  ({100 * (high - low) / n_in:.1f} %)"
        parts.append(_text(WIDTH - 122, y + row / 2 + 4, shown, "value", "start"))
    reasons = ", ".join(f"{count} {name}" for name, count in dropped.items()) or "none"
    return _svg(height, title, f"{n_in} {unit} in, {n_kept} kept; dropped: {reasons}.", parts)


def interval_text(bar: Bar, *, percent: bool = False) -> str:
    """``61.2 % [55.1, 67.0]``, or the value alone."""
    if bar.low is None or bar.high is None:
        return f"{100 * bar.value:.1f} %" if percent else label(bar.value)
    if percent:
        return f"{100 * bar.value:.1f} % [{100 * bar.low:.1f}, {100 * bar.high:.1f}]"
    return f"{label(bar.value)} [{label(bar.low)}, {label(bar.high)}]"


def _steps(n_in: int, dropped: Mapping[str, int]) -> list[tuple[str, int, int, str]]:
    steps: list[tuple[str, int, int, str]] = []
    left = n_in
    for reason, count in dropped.items():
        steps.append((reason, left - count, left, "dropped"))
        left -= count
    return steps


def _bar(
    bar: Bar, index: int, middle: float, across: Axis, gutter: float, percent: bool
) -> list[Markup]:
    """A bar, its name on the left, its interval as a whisker, its numbers on the right."""
    zero, end = across(0.0) if across.low <= 0 else across.start, across(bar.value)
    parts = [
        _text(gutter - 10, middle + 4, _cut(bar.label), "name", "end", full=bar.label),
        _tag("rect", klass=f"bar fill-{index % N_COLOURS}", x=min(zero, end), y=middle - 10,
             width=abs(end - zero), height=20, rx=2),
    ]  # fmt: skip
    if bar.low is not None and bar.high is not None:
        low, high = across(bar.low), across(bar.high)
        parts.append(_line(low, middle, high, middle, "whisker"))
        parts += [_line(x, middle - 5, x, middle + 5, "whisker") for x in (low, high)]
    shown = interval_text(bar, percent=percent)
    parts.append(_text(across.end + 12, middle + 4, shown, "value", "start"))
    return parts


def _grid(values: Sequence[float], up: Axis, left: float, right: float) -> Markup:
    lines = [_line(left, up(y), right, up(y), "grid") for y in values]
    names = [_text(left - 8, up(y) + 4, label(y), "tick", "end") for y in values]
    return Markup("").join([*lines, *names])


def _curve(points: Points, across: Axis, up: Axis, colour: int) -> Markup:
    path = "M" + "L".join(f"{across(x)} {up(y)}" for x, y in points)
    parts = [_tag("path", klass=f"curve line-{colour}", d=path)]
    if len(points) <= 30:
        parts += [
            _tag("circle", klass=f"dot fill-{colour}", cx=across(x), cy=up(y), r=3)
            for x, y in points
        ]
    return Markup("").join(parts)


def _gutter(names: Sequence[str]) -> float:
    """The width left of the bars that the longest name needs, within reason."""
    return min(max(len(_cut(name)) for name in names) * GLYPH + 22, 250)


def _cut(name: str, longest: int = 32) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _svg(height: float, title: str, description: str, parts: Sequence[Markup]) -> Markup:
    title, description = visible(title), visible(description)
    head = Markup("<title>{}</title><desc>{}</desc>").format(title, description)
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>').format(
        WIDTH, math.ceil(height), f"{title}. {description}", head, Markup("").join(parts)
    )


def _tag(name: str, *, klass: str, **attributes: float | str) -> Markup:
    shown = Markup(" ").join(
        Markup('{}="{}"').format(key.replace("_", "-"), _number(value))
        for key, value in attributes.items()
    )
    return Markup('<{} class="{}" {}/>').format(Markup(name), klass, shown)


def _line(x1: float, y1: float, x2: float, y2: float, klass: str) -> Markup:
    return _tag("line", klass=klass, x1=x1, y1=y1, x2=x2, y2=y2)


def _text(
    x: float, y: float, words: str, klass: str, anchor: str, *, full: str | None = None
) -> Markup:
    hover = Markup("<title>{}</title>").format(visible(full)) if full and full != words else ""
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}{}</text>').format(
        klass, _number(x), _number(y), anchor, escape(visible(words)), hover
    )


def _turned(x: float, y: float, words: str) -> Markup:
    return Markup(
        '<text class="axis" text-anchor="middle" transform="translate({} {}) rotate(-90)">{}</text>'
    ).format(_number(x), _number(y), visible(words))


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{round(value, 1):g}"
