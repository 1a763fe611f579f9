"""Formulas become MathML that only draws; what is no formula stays what it was."""

from __future__ import annotations

import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.annotation import formulas
from prefkit.annotation.formulas import LONGEST_FORMULA, MOST_FORMULAS, to_mathml
from prefkit.annotation.render import render_markdown


class Elements(HTMLParser):
    """(tag, attributes) of every element, and all text."""

    def __init__(self, markup):
        super().__init__()
        self.found = []
        self.text = ""
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def tags(markup):
    return [tag for tag, _ in Elements(markup).found]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$x^2$", ["msup"]),
        (r"\(\frac{a}{b}\)", ["mfrac"]),
        ("$$\\sum_{i=1}^n i$$", ["munderover", "mo"]),
        ("$$\n\\sqrt{2}\n$$", ["msqrt"]),
        ("\\[\n\\sqrt[3]{2}\n\\]", ["mroot"]),
        (r"so \[a_1\] holds", ["msub"]),
        ("\\begin{align}\na &= b \\\\\nc &= d\n\\end{align}", ["mtable", "mtr", "mtd"]),
        ("$$\\begin{aligned} a &= b \\\\ c &= d \\end{aligned}$$", ["mtable", "mtr", "mtd"]),
        ("\\begin{alignat}{2} a &= b \\end{alignat}", ["mtable"]),
        ("> \\[\n> \\sqrt{2}\n> \\]", ["blockquote", "msqrt"]),
        (r"$\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}$", ["mtable"]),
        ("- a list with $x_1$", ["li", "msub"]),
        ("|a|\n|-|\n|$x_1$|", ["td", "msub"]),
    ],
)
def test_formulas_are_drawn(text, wanted):
    found = tags(render_markdown(text))
    assert "math" in found
    assert set(wanted) <= set(found)


def test_a_display_formula_stands_alone_and_an_inline_one_in_its_line():
    shown = {
        text: [facts.get("display") for tag, facts in Elements(render_markdown(text)).found
               if tag == "math"]
        for text in ("a $x$ b", "$$x$$", r"\[x\]", r"a \(x\) b")
    }  # fmt: skip
    assert list(shown.values()) == [["inline"], ["block"], ["block"], ["inline"]]


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 and then $6.",
        "$5-$10",
        "from 5$ to 6$",
        "$ 5 $",
        r"\$x\$",
        "`$x$`",
        "    $x$ in code",
        "```\n$x$ and \\(y\\)\n```",
        "US$ and A$",
        r"\( \)",
        r"a \( never closed",
        "$$",
    ],
)
def test_what_is_no_formula_stays_text(text):
    assert "math" not in tags(render_markdown(text))


def test_text_around_formulas_is_kept():
    text = Elements(render_markdown(r"Let $x$ be **big**, and \(y\) not: $5.")).text
    assert text.split() == ["Let", "x", "be", "big,", "and", "y", "not:", "$5."]


@pytest.mark.parametrize("source", [r"\frac{a}", r"\left( x", "{" * 900, r"\begin{matrix} a", "^^"])
def test_what_is_not_understood_is_shown_as_it_was_written(source):
    markup = render_markdown(f"a \\({source}\\) b")
    if "math" not in tags(markup):
        assert source in Elements(markup).text


def test_formulas_that_are_too_long_or_too_many_are_shown_as_source():
    assert to_mathml("x" * (LONGEST_FORMULA + 1), block=False) is None
    markup = render_markdown("$x$ " * (MOST_FORMULAS + 3))
    assert tags(markup).count("math") == MOST_FORMULAS
    assert tags(markup).count("code") == 3


ATTACKS = [
    r"\text{<img src=x onerror=alert(1)>}",
    r"\text{</math><script>alert(1)</script>}",
    r"\mbox{&lt;script&gt;alert(1)&lt;/script&gt;}",
    r"\href{javascript:alert(1)}{x}",
    r"\text{&#x3c;script&#x3e;alert(1)&#x3c;/script&#x3e;}",
    r"\color{red\" onmouseover=\"alert(1)}{x}",
    r"\style{background:url(http://evil.example)}{x}",
    r"\class{x\" onclick=\"alert(1)}{y}",
    r"\unicode{x3c}img src=x onerror=alert(1)>",
    r"<img src=x onerror=alert(1)>",
    r"\hspace{1px\" onload=\"alert(1)}",
    r"\begin{array}{c\" onload=\"alert(1)} x \end{array}",
]


def assert_only_draws(markup):
    for tag, facts in Elements(markup).found:
        assert tag in formulas.TAGS | {"p", "code", "br", "a", "em", "strong", "pre"}
        if tag in formulas.TAGS:
            assert set(facts) <= formulas.ATTRIBUTES[tag]
            assert not any(":" in value or "(" in value for value in facts.values())


@pytest.mark.parametrize("source", ATTACKS)
def test_attacks_in_formulas_become_text(source):
    for text in (f"${source}$", f"$${source}$$", rf"\({source}\)"):
        assert_only_draws(render_markdown(text))
    drawn = to_mathml(source, block=True)
    if drawn is not None:
        assert_only_draws(drawn)


PIECES = st.sampled_from(
    ["{", "}", "\\", "^", "_", "&", "$", "\\frac", "\\left(", "\\right)", "\\text{", "\\sqrt[",
     "]", "\\begin{matrix}", "\\end{matrix}", "\\\\", "<", ">", '"', "x", "1", " ", "\\sum",
     "\\limits", "\\mathbf", "\\color{", "\\hspace{1em}", "é", "中"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=25).map("".join))
def test_no_source_raises_or_gives_more_than_drawing(source):
    drawn = to_mathml(source, block=False)
    if drawn is not None:
        assert_only_draws(drawn)


@pytest.mark.parametrize("piece", ["$", "$$a ", r"\(", r"\[", "\\[\n", "$a$ ", "{", "\\frac{",
                                   "\\begin{align}\n", "x_", "\\left("])  # fmt: skip
def test_hostile_text_is_drawn_in_time(piece):
    text = piece * (30_000 // len(piece))
    started = time.perf_counter()
    render_markdown(text)
    to_mathml(text[:LONGEST_FORMULA], block=True)
    assert time.perf_counter() - started < 5
