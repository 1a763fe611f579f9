"""Everybody can use the page: axe-core finds nothing serious on any of its views."""

from __future__ import annotations

import pytest
from rater_pages import press, said, settle, wait_for_done, workspace
from store_cases import pair

pytestmark = pytest.mark.browser
LONG = (
    "# Title\n\nText with `code`, **bold** and $x^2$.\n\n```\n" + "x" * 300 + "\n```\n\n"
    "| a | b |\n|-|-|\n| " + "wide" * 80 + " | 2 |\n\n"
    "$$\\sum_{i=1}^n \\frac{i}{2} + " + "+".join("x" * 40) + "$$\n\n> quote\n\n[link](https://ok.example)"
)  # fmt: skip
ARABIC = "هذه إجابة قصيرة مع `code` ورقم 42."
CHINESE = "这是一个很长的回答，" * 30


def views(page, app):
    """Bring the page into each of its views; the name of the one it is in."""
    page.goto(app.url)
    settle(page)
    page.wait_for_selector(".pk-new:not([hidden])")
    yield "pair"
    page.keyboard.press("d")
    yield "differences"
    page.keyboard.press("m")
    yield "source"
    page.keyboard.press("m")
    page.keyboard.press("a")
    page.keyboard.press("1")
    page.keyboard.press("f")
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    page.keyboard.type("why")
    page.keyboard.press("Escape")
    yield "questions, reason and note"
    page.keyboard.press("Escape")
    for key, name in (("g", "guidelines"), ("?", "help"), ("e", "edit")):
        page.keyboard.press(key)
        page.wait_for_selector("dialog[open]")
        yield name
        page.keyboard.press("Escape")
    press(page, "1")
    wait_for_done(page, 1)
    page.keyboard.press("h")
    page.wait_for_selector('[data-slot="history"] button')
    yield "history"
    page.locator('[data-slot="history"] button').first.click()
    said(page, "You said")
    settle(page)
    yield "an old vote"
    page.keyboard.press("Escape")
    settle(page)
    press(page, "4")
    while page.get_attribute(".pk", "data-state") != "done":
        press(page, "s")
    yield "done"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_window(
    chromium, start_app, tmp_path, scheme, width
):
    from axe_playwright_python.sync_playwright import Axe

    texts = [pair(LONG, LONG, LONG + "!"), pair(ARABIC, ARABIC, CHINESE), pair("", "1", "2")]
    app = start_app(workspace(tmp_path, texts, aspects=["style", "Ton"], confidence=True))
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    found, seen = [], []
    for view in views(page, app):
        seen.append(view)
        page.wait_for_timeout(350)
        result = Axe().run(page).response
        assert len(result["passes"]) > 10
        found += [
            (view, fault["id"], node["html"][:200])
            for fault in result["violations"]
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append((view, "wider than the window", ""))
    context.close()
    assert found == []
    assert len(seen) == 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_the_log_in_page(chromium, start_app, tmp_path, scheme):
    from axe_playwright_python.sync_playwright import Axe

    app = start_app(workspace(tmp_path, [pair("q")], ("kim",)), rater=None)
    context = chromium.new_context(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(app.url)
    page.wait_for_selector("#name")
    result = Axe().run(page).response
    context.close()
    faults = [fault["id"] for fault in result["violations"]]
    assert faults == []


def test_text_of_every_direction_and_size_is_shown(chromium, start_app, tmp_path):
    huge = "word " * 200_000
    app = start_app(workspace(tmp_path, [pair(ARABIC, CHINESE, huge)]))
    page = chromium.new_page()
    page.goto(app.url)
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    direction = page.evaluate(
        "getComputedStyle(document.querySelector('[data-slot=prompt] .pk-turn')).direction"
    )
    assert direction == "rtl"
    sizes = {len(page.text_content(f'[data-slot="{side}"]').strip()) for side in ("left", "right")}
    assert max(sizes) >= len(huge.strip())
    page.keyboard.press("d")
    said(page, "too long")
    press(page, "4")
    page.close()


def test_a_long_panel_opens_at_its_beginning(chromium, start_app, tmp_path):
    folder = workspace(tmp_path, [pair("q")], guidelines="A rule.\n\n" * 200)
    page = chromium.new_page(viewport={"width": 1280, "height": 700})
    page.goto(start_app(folder).url)
    settle(page)
    page.wait_for_function("document.querySelector('[data-slot=version]').textContent !== ''")
    for key in ("g", "?"):
        page.keyboard.press(key)
        page.wait_for_selector("dialog[open]")
        page.wait_for_timeout(100)
        assert page.evaluate("document.querySelector('dialog[open]').scrollTop") == 0
        page.keyboard.press("Escape")
    page.close()
