"""Whatever a model writes, what reaches the page is harmless and fetches nothing."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefkit.annotation.render import LONGEST_MARKDOWN, TAGS, render_markdown, render_messages
from prefkit.core.records import Message, Part

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![beacon](http://evil.example/pixel.png)",
    "![x](x 'a\" onerror=\"alert(1)')",
    "[click](javascript:alert(1))",
    "[click](data:text/html;base64,PHNjcmlwdD4=)",
    '[a](https://ok.example "x\\" onmouseover=alert(1) y")',
    "<iframe src=//evil.example></iframe>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mtext></p><style><!--</style><img src onerror=alert(1)>",
    "```html\n</code></pre><script>alert(1)</script>\n```",
    "# <b onclick=alert(1)>x",
    "<style>@import 'http://evil.example/x.css'</style>",
    "[ref]\n\n[ref]: javascript:alert(1)",
    "<a href=//evil.example ping=http://evil.example>x</a>",
    "| a |\n|---|\n| <img src=http://evil.example> |",
    "`a` & &lt;script&gt; &#x3C;script&#x3E;",
]


class Inventory(HTMLParser):
    """Every tag and attribute of a fragment."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str, str]] = set()
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {(tag, name, value or "") for name, value in attrs}


def assert_harmless(markup: str) -> None:
    found = Inventory(markup)
    assert found.tags <= TAGS
    assert not found.tags & {"img", "script", "style", "iframe", "h1", "h2"}
    for tag, name, value in found.attributes:
        assert (tag, name) in {
            ("a", "href"),
            ("a", "title"),
            ("a", "rel"),
            ("a", "target"),
            ("ol", "start"),
        }
        if name == "href":
            assert value.split(":")[0].lower() in {"http", "https", "mailto"}


@pytest.mark.parametrize("text", ATTACKS)
def test_attacks_become_text(text):
    assert_harmless(render_markdown(text))


@given(
    st.lists(
        st.sampled_from(ATTACKS)
        | st.text(max_size=20)
        | st.sampled_from(list("<>[]()!`*_#\n|\"'&")),
        max_size=8,
    ).map("".join)
)
@example("\ud800 lone surrogate and nul \x00")
def test_any_text_is_harmless_and_can_be_sent(text):
    markup = render_markdown(text)
    assert_harmless(markup)
    markup.encode("utf-8")


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9 ]{0,30}[A-Za-z0-9])?", fullmatch=True))
def test_plain_words_are_kept(text):
    assert " ".join(text.split()) in " ".join(render_markdown(text).split())


def test_markdown_is_drawn():
    markup = render_markdown("# Head\n\n- one\n- **two**\n\n```py\nx < 1\n```\n\n|a|\n|-|\n|1|")
    for piece in ("<h3>Head</h3>", "<strong>two</strong>", "x &lt; 1", "<td>1</td>"):
        assert piece in markup


def test_an_image_says_what_was_not_loaded():
    assert "[image not loaded: a cat]" in render_markdown("![a cat](http://evil.example/cat.png)")


def test_links_open_elsewhere_and_tell_nothing_about_us():
    markup = render_markdown("[x](https://ok.example/)")
    assert 'target="_blank"' in markup
    assert "noreferrer" in markup


def test_very_long_text_is_shown_whole_as_it_is():
    text = "*" * (LONGEST_MARKDOWN + 1)
    assert render_markdown(text) == f"<pre>{text}</pre>"


def test_parts_that_are_not_text_and_tool_calls_are_noted():
    message = Message(
        "assistant", (Part("text", "see"), Part("image", path="<b>.png")), tool_calls="[<i>]"
    )
    (turn,) = render_messages([message])
    assert turn["role"] == "assistant"
    assert "[image: &lt;b&gt;.png]" in turn["html"]
    assert "[&lt;i&gt;]" in turn["html"]
