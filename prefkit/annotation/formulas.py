"""LaTeX in Markdown as MathML: browsers draw it without a script, a font or a request of ours.

``$…$`` and ``$$…$$`` (the rules of markdown-it-dollarmath: amounts of money stay text),
``\\(…\\)``, ``\\[…\\]`` and the environments of amsmath. The converter's tree is written out here,
element by element from a list of those that only draw, so nothing it lets through can become
markup. What is too long, too much or not understood is shown as its source.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

from prefkit.core.errors import require

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

LONGEST_FORMULA = 2000  # characters
MOST_FORMULAS = 200  # in one text
TAGS = {
    "math", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "mfrac", "msqrt", "mroot", "mstyle",
    "merror", "mpadded", "mphantom", "msub", "msup", "msubsup", "munder", "mover", "munderover",
    "mmultiscripts", "mprescripts", "mtable", "mtr", "mtd",
}  # fmt: skip
_OF_ALL = {"mathvariant", "displaystyle", "scriptlevel"}
_OF_SOME = {
    "math": {"display"},
    "mo": {"stretchy", "fence", "separator", "form", "lspace", "rspace", "minsize", "maxsize",
           "movablelimits", "largeop", "symmetric", "accent"},
    "mspace": {"width", "height", "depth"},
    "mpadded": {"width", "height", "depth", "lspace", "voffset"},
    "mfrac": {"linethickness"},
    "munder": {"accentunder"},
    "mover": {"accent"},
    "munderover": {"accent", "accentunder"},
    "mtable": {"columnalign", "rowspacing", "columnspacing", "rowlines", "columnlines"},
    "mtr": {"columnalign"},
    "mtd": {"columnalign", "columnspan", "rowspan"},
}  # fmt: skip
ATTRIBUTES = {tag: _OF_ALL | _OF_SOME.get(tag, set()) for tag in TAGS}
_OPENING = re.compile(
    r"\\\[|\\begin\{(?P<name>(?:equation|align|aligned|alignat|gather|multline|eqnarray|cases|split"
    r"|array|[pbBvV]?matrix)\*?)\}"
)
_BARE = (None, "equation", "equation*")  # the environment itself draws nothing
_EQUATION = re.compile(r"\\(?:begin|end)\{equation\*?\}")
_ALIKE = re.compile(
    r"\\(begin|end)\{(?:aligned|gathered|gather|multline|eqnarray|flalign|alignat|alignedat)\*?\}"
    r"(?:\{[0-9]*\})?"
)
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_VALUE = re.compile(r"[A-Za-z0-9.%+ -]{1,64}")
# latex2mathml writes a sign as the text of its reference.
_REFERENCE = re.compile(r"&#x([0-9A-Fa-f]{1,6});")
# What its parser raises beside its own faults when it meets what it did not expect.
_UNEXPECTED = (
    AssertionError, AttributeError, IndexError, KeyError, NameError, RuntimeError, StopIteration,
    TypeError, ValueError,
)  # fmt: skip


def to_mathml(source: str, *, block: bool) -> str | None:
    """A formula as ``<math>…</math>``; None for one that is too long or not understood."""
    if len(source) > LONGEST_FORMULA:
        return None
    converter = require("latex2mathml.converter", "app")
    display = "block" if block else "inline"
    try:
        return _written(converter.convert_to_element(_plainer(source), display=display))
    except _faults():
        return None


def _plainer(source: str) -> str:
    """``source`` with environments that the converter knows in the place of their like."""
    return _ALIKE.sub(r"\\\1{align}", _EQUATION.sub("", source))


@cache
def _faults() -> tuple[type[Exception], ...]:
    own = vars(require("latex2mathml.exceptions", "app")).values()
    named = [kind for kind in own if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*named, *_UNEXPECTED)


def _written(element: Element) -> str:
    inner = _text(element.text)
    inner += "".join(_written(child) + _text(child.tail) for child in element)
    if element.tag not in TAGS:
        return inner
    allowed = ATTRIBUTES[element.tag]
    facts = "".join(
        f' {name}="{value}"'
        for name, value in element.attrib.items()
        if name in allowed and _VALUE.fullmatch(value)
    )
    return f"<{element.tag}{facts}>{inner}</{element.tag}>"


def _text(text: str | None) -> str:
    return html.escape(_REFERENCE.sub(_sign, text)) if text else ""


def _sign(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return chr(code) if 32 <= code < 0x110000 and not 0xD800 <= code < 0xE000 else ""


def read_formulas(parser: MarkdownIt) -> None:
    """Let ``parser`` read formulas, and draw them."""
    dollarmath = require("mdit_py_plugins.dollarmath", "app")
    parser.use(
        dollarmath.dollarmath_plugin,
        allow_labels=False,
        allow_space=False,
        allow_digits=False,
        allow_blank_lines=False,
        double_inline=True,
    )
    parser.inline.ruler.before("escape", "math_bracket", _inline_bracket)
    ends = ["paragraph", "reference", "blockquote", "list"]
    parser.block.ruler.before("fence", "math_display", _display, {"alt": ends})
    for kind in ("math_inline", "math_inline_double", "math_block"):
        parser.add_render_rule(kind, _drawn)


def _drawn(
    _renderer: RendererHTML, tokens: Sequence[Token], index: int, _options: object, env: Any
) -> str:
    """The render rule of every kind of formula. env lasts for one text."""
    token = tokens[index]
    env["n_formulas"] = env.get("n_formulas", 0) + 1
    inline = token.type == "math_inline"
    source = token.content.strip()
    drawn = to_mathml(source, block=not inline) if env["n_formulas"] <= MOST_FORMULAS else None
    if drawn is None:
        drawn = f"<code>{html.escape(source)}</code>"
    return f"<p>{drawn}</p>\n" if token.block else drawn


def _inline_bracket(state: StateInline, silent: bool) -> bool:
    r"""The inline rule of ``\(…\)``, and of ``\[…\]`` within a line."""
    opening = state.src[state.pos : state.pos + 2]
    closing = {r"\(": r"\)", r"\[": r"\]"}.get(opening)
    if closing is None:
        return False
    end = state.src.find(closing, state.pos + 2, state.pos + 4 + LONGEST_FORMULA)
    if end < 0 or not state.src[state.pos + 2 : end].strip():
        return False
    if not silent:
        kind = "math_inline" if opening == r"\(" else "math_inline_double"
        token = state.push(kind, "math", 0)
        token.content = state.src[state.pos + 2 : end]
    state.pos = end + 2
    return True


def _display(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    r"""The block rule of ``\[…\]`` and ``\begin{align}…\end{align}`` on lines of their own."""
    begin = state.bMarks[start] + state.tShift[start]
    opening = _OPENING.match(state.src, begin, state.eMarks[start])
    if opening is None or state.sCount[start] - state.blkIndent >= 4:
        return False
    closing = r"\]" if opening["name"] is None else rf"\end{{{opening['name']}}}"
    at = state.src.find(closing, opening.end(), begin + LONGEST_FORMULA)
    after = at + len(closing)
    if at < 0 or _BLANK_LINE.search(state.src, begin, at):
        return False
    last = start
    while last < end and state.eMarks[last] < after:
        last += 1
    if last == end or state.src[after : state.eMarks[last]].strip(" \t.,;"):
        return False
    if not silent:
        state.line = last + 1
        token = state.push("math_block", "math", 0)
        token.block = True
        token.map = [start, state.line]
        # Without the signs of a quotation that each line begins with.
        text = state.getLines(start, state.line, state.sCount[start], False)
        inner = text[text.index(opening[0]) + len(opening[0]) : text.rindex(closing)]
        token.content = inner if opening["name"] in _BARE else f"{opening[0]}{inner}{closing}"
    return True
