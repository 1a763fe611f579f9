"""Model text as HTML that is safe to put into a page, and nothing fetched from anywhere.

Model text is untrusted. Markdown is rendered with raw HTML shown as text, images in it become a
note (loading one would tell a stranger who reads what), headings move below the page's own,
formulas become MathML, and the result passes an allow-list sanitiser all the same.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, TypedDict

from prefkit.annotation import formulas
from prefkit.core.errors import require
from prefkit.core.records import Message, Part

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.rules_core import StateCore
    from markdown_it.token import Token

# Characters; longer text is shown as it is. Hostile Markdown of 100,000 took up to 4 s to render.
LONGEST_MARKDOWN = 30_000
TAGS = {
    "p", "br", "hr", "strong", "em", "s", "blockquote", "code", "pre", "ul", "ol", "li", "a",
    "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td", *formulas.TAGS,
}  # fmt: skip
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}, **formulas.ATTRIBUTES}


class Turn(TypedDict):
    """One message on the page. html is sanitised; role and raw are plain text."""

    role: str
    html: str
    raw: str


def render_messages(messages: Sequence[Message], first_medium: int = 0) -> list[Turn]:
    """Each message as sanitised HTML; tool calls as they are.

    An image or audio file of this machine is ``<figure data-media="N" data-kind="image">`` with
    its name, for the page to fill; N counts the media of ``messages`` from ``first_medium``. One
    of elsewhere is a note.
    """
    turns: list[Turn] = []
    for message in messages:
        turns.append(_render_message(message, first_medium))
        first_medium += len(media_of([message]))
    return turns


def media_of(messages: Sequence[Message]) -> list[Part]:
    """The images and audio files of ``messages`` that can be shown, in their order."""
    return [part for message in messages for part in message.parts if _is_local(part)]


def _is_local(part: Part) -> bool:
    path = part.path or ""
    return part.kind != "text" and path != "" and "://" not in path and not path.startswith("data:")


def _render_message(message: Message, medium: int) -> Turn:
    drawn: list[str] = []
    raw: list[str] = []
    for part in message.parts:
        if part.kind == "text":
            drawn.append(render_markdown(part.text or ""))
            raw.append(part.text or "")
            continue
        note = f"[{part.kind}: {part.path}]"
        raw.append(note)
        if _is_local(part):
            caption = html.escape(_encodable(note))
            facts = f'data-media="{medium}" data-kind="{part.kind}"'
            drawn.append(f"<figure {facts}><figcaption>{caption}</figcaption></figure>")
            medium += 1
        else:
            drawn.append(_as_text(note))
    if message.tool_calls:
        drawn.append(_as_text(message.tool_calls))
        raw.append(message.tool_calls)
    return {
        "role": _encodable(message.role),
        "html": "".join(drawn),
        "raw": _encodable("\n\n".join(raw)),
    }


def render_markdown(text: str, *, breaks: bool = True) -> str:
    """Markdown as sanitised HTML without images, scripts, styles, classes or ids.

    breaks: a line end is a line break, as people expect of a chat; without, lines flow.
    """
    text = _encodable(text)
    if len(text) > LONGEST_MARKDOWN:
        return _as_text(text)
    return _sanitise(_markdown(breaks).render(text))


def _encodable(text: str) -> str:
    """A lone surrogate cannot be sent as UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _as_text(text: str) -> str:
    return _sanitise(f"<pre>{html.escape(_encodable(text))}</pre>")


def _sanitise(markup: str) -> str:
    nh3 = require("nh3", "app")
    return nh3.clean(
        markup,
        tags=TAGS,
        attributes=ATTRIBUTES,
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
    formulas.read_formulas(parser)
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
