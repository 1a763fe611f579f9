"""Model text as HTML that is safe to put into a page, and nothing fetched from anywhere.

Model text is untrusted. Markdown is rendered with raw HTML shown as text, images become a note
(loading one would tell a stranger who reads what), headings move below the page's own, and the
result passes an allow-list sanitiser all the same.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, TypedDict

from prefkit.core.errors import require
from prefkit.core.records import Message

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.rules_core import StateCore
    from markdown_it.token import Token

# Characters; longer text is shown as it is. Hostile Markdown of 100,000 took up to 4 s to render.
LONGEST_MARKDOWN = 30_000
TAGS = {
    "p", "br", "hr", "strong", "em", "s", "blockquote", "code", "pre", "ul", "ol", "li", "a",
    "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip


class Turn(TypedDict):
    """One message on the page. html is sanitised; role is plain text."""

    role: str
    html: str


def render_messages(messages: Sequence[Message]) -> list[Turn]:
    """Each message as sanitised HTML; images, audio and tool calls as a note."""
    return [{"role": message.role, "html": _render_message(message)} for message in messages]


def _render_message(message: Message) -> str:
    pieces: list[str] = []
    for part in message.parts:
        if part.kind == "text":
            pieces.append(render_markdown(part.text or ""))
        else:
            pieces.append(_as_text(f"[{part.kind}: {part.path}]"))
    if message.tool_calls:
        pieces.append(_as_text(message.tool_calls))
    return "".join(pieces)


def render_markdown(text: str, *, breaks: bool = True) -> str:
    """Markdown as sanitised HTML without images, scripts, styles, classes or ids.

    breaks: a line end is a line break, as people expect of a chat; without, lines flow.
    """
    # A lone surrogate cannot be sent as UTF-8.
    text = text.encode("utf-8", "replace").decode("utf-8")
    if len(text) > LONGEST_MARKDOWN:
        return _as_text(text)
    return _sanitise(_markdown(breaks).render(text))


def _as_text(text: str) -> str:
    return _sanitise(f"<pre>{html.escape(text)}</pre>")


def _sanitise(markup: str) -> str:
    nh3 = require("nh3", "app")
    return nh3.clean(
        markup,
        tags=TAGS,
        attributes={"a": {"href", "title"}, "ol": {"start"}},
        url_schemes={"http", "https", "mailto"},
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )


@cache
def _markdown(breaks: bool) -> MarkdownIt:
    markdown_it = require("markdown_it", "app")
    parser: MarkdownIt = markdown_it.MarkdownIt("commonmark", {"html": False, "breaks": breaks})
    parser.enable(["table", "strikethrough"])
    parser.add_render_rule("image", _image_note)
    parser.core.ruler.push("lower_headings", _lower_headings)
    return parser


def _image_note(
    _renderer: RendererHTML, tokens: Sequence[Token], index: int, _options: object, _env: object
) -> str:
    token = tokens[index]
    about = token.content or str(token.attrs.get("src", ""))
    return f"<em>[image not loaded: {html.escape(about)}]</em>"


def _lower_headings(state: StateCore) -> None:
    """The page has its <h1> and <h2>: an answer's # starts at <h3>."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
