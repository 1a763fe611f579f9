"""The lead's page: one ``gr.HTML`` component whose script asks prefkit's own routes."""

from __future__ import annotations

import warnings
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradio import Blocks

PATH = "/lead"
SCRIPTS = ("elements.js", "panels.js", "pairs.js", "tabs.js")  # one script, in this order


def add_lead_page(page: Blocks) -> None:
    """Put the page at PATH of an app whose first page is done. Raters never get its HTML."""
    import gradio as gr

    # Gradio says so of every app of several pages, although we ask for no such mode.
    warnings.filterwarnings("ignore", "SSR mode is not supported", UserWarning)
    with page.route("Lead", PATH, show_in_navbar=False):
        gr.HTML(
            # In the template: as css_template the rules for the dark theme would not apply.
            html_template=f"<style>{_asset('lead.css')}</style>{_asset('lead.html')}",
            js_on_load="\n".join(_asset(name) for name in SCRIPTS),
            apply_default_css=False,
            padding=False,
        )


def _asset(name: str) -> str:
    return files("prefkit_apps").joinpath("assets", "lead", name).read_text(encoding="utf-8")
