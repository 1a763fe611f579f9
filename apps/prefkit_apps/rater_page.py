"""The page for the rater: one gr.HTML whose script talks to our own routes, and no event of Gradio.

Its parts are files under assets/rater: page.html, page.css, and scripts that are joined in the
order of their names. Its words are in assets/i18n, a file a language.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gradio

LANGUAGES = ("en", "fr", "es", "zh")
TITLE = "prefkit: label pairs"


def rater_page() -> gradio.Blocks:
    """The page, to be mounted with ``translations`` and ``style``."""
    import gradio as gr

    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(
            label=translations()("title"),
            html_template=read_asset("rater/page.html"),
            js_on_load=script(),
            apply_default_css=False,
            padding=False,
            words=words(),
        )
    return page


def translations() -> gradio.I18n:
    """The words for Gradio's own texts. It translates no props of gr.HTML: those get ``words``."""
    import gradio as gr

    return gr.I18n(**words())


@cache
def words() -> dict[str, dict[str, str]]:
    """language → name → text."""
    return {name: json.loads(read_asset(f"i18n/{name}.json")) for name in LANGUAGES}


def script() -> str:
    """The page's scripts as one."""
    found = sorted(
        (path for path in _assets().joinpath("rater").iterdir() if path.name.endswith(".js")),
        key=lambda path: path.name,
    )
    return "\n".join(path.read_text(encoding="utf-8") for path in found)


def style() -> str:
    """The page's rules, after those that all pages share."""
    return read_asset("theme.css") + read_asset("rater/page.css")


def read_asset(name: str) -> str:
    """The text of a file under assets."""
    return _assets().joinpath(*name.split("/")).read_text(encoding="utf-8")


def _assets() -> Traversable:
    return files("prefkit_apps").joinpath("assets")
