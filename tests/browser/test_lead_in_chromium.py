"""The lead's page as a person meets it: a real process, a real Chromium, clicks and keys."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from components import require_component
from media_files import png
from store_cases import pair, vote

from prefkit.core.records import Comparison, Completion, Message, Part, Prompt
from prefkit.store import VoteStore

pytestmark = pytest.mark.browser
EVIL = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"
CONTRAST = (Path(__file__).parent / "contrast.js").read_text().replace('".pk"', '".pl"')
TABS = ("progress", "agreement", "bias", "raters", "disputes", "search", "guidelines", "export")


def workspace(tmp_path, n=24):
    """A workspace in which three people labelled, disagree, and wrote hostile words."""
    folder = tmp_path / "work.prefkit"
    folder.mkdir()
    (folder / "prefkit.yaml").write_text("annotate:\n  k: 3\n")
    rng = np.random.default_rng(0)
    with VoteStore.open(folder / "votes.db") as store:
        people = [store.rater_id(name) for name in ("Ana", "Bo", EVIL)]
        new = [
            pair(
                f"question {k}",
                "- a list\n- of two",
                "one line",
                origin=f"{'web' if k % 2 else EVIL}",
            )
            for k in range(n)
        ]
        store.add(new, k=3)
        start = datetime.now(UTC) - timedelta(days=3)
        store.add_votes(
            [
                vote(
                    comparison,
                    person,
                    str(rng.choice(["a", "b"])),
                    strength=int(rng.integers(1, 4)),
                    shown_first=str(rng.choice(["a", "b"])),
                    active_ms=int(rng.integers(900, 9000)),
                    at=start + timedelta(days=k % 3),
                    rationale=f"{EVIL} because {k}",
                )
                for k, comparison in enumerate(new)
                for person in people
            ]
        )
        store.add([pair("not yet labelled")], k=3)
    return folder


@pytest.fixture
def page(chromium, start_app, tmp_path):
    """The lead's page of a running app, and what went wrong on it."""
    app = start_app(workspace(tmp_path))
    opened = chromium.new_page()
    opened.asked, opened.failed = [], []
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.on("pageerror", lambda error: opened.failed.append(str(error)))
    opened.on("console", lambda said: said.type == "error" and opened.failed.append(said.text))
    opened.goto(app.url + "lead")
    opened.app = app
    yield opened
    opened.close()


def on(page, name):
    """Wait until the panel is drawn."""
    page.wait_for_selector(f'.pl[data-state="{name}"]', timeout=20_000)
    return page.locator(f"#pl-{name}")


def test_every_panel_is_drawn_and_nothing_hostile_runs(page):
    assert "72 of 75" in on(page, "progress").inner_text().replace("\u202f", "")
    assert on(page, "progress").locator("svg").count() == 1
    for name, said in (
        ("agreement", "Krippendorff"),
        ("bias", "the longer answer is chosen"),
        ("raters", "Ana"),
        ("disputes", "Decide"),
        ("guidelines", "Which answer would you rather"),
        ("export", "trl"),
    ):
        page.click(f'[data-tab="{name}"]')
        assert said in on(page, name).inner_text(), name
    assert on(page, "export").locator("a[download]").count() >= 5
    about = page.locator("#pl-disputes .pl-about").all_inner_texts()
    assert len(about) == len(set(about)) > 5
    assert all(words.startswith("question ") for words in about)
    page.click('[data-tab="agreement"]')
    assert on(page, "agreement").locator("svg").count() == 2  # by week and by origin
    assert "onerror" in page.text_content("#pl-agreement")
    assert page.title() == "prefkit: the labelling so far"
    assert page.locator(".pl :is(img, script, iframe)").count() == 0
    away = [url for url in page.asked if not url.startswith((page.app.url, "data:", "blob:"))]
    assert (away, page.failed) == ([], [])


def test_a_dispute_is_decided_blind_and_becomes_an_example(page):
    on(page, "progress")
    page.click('[data-tab="disputes"]')
    on(page, "disputes").get_by_role("button", name="Decide", exact=True).first.click()
    page.wait_for_selector(".pl-decide")
    assert "because" not in page.text_content("#pl-disputes")
    page.click("text=Save the decision")
    assert "Choose a verdict first" in page.text_content(".pl-status")
    page.get_by_label("Left is better", exact=True).check()
    page.get_by_label("Length: how much is enough").check()
    page.get_by_label("An answer says what is not true").check()
    page.fill("#pl-words", "the left one is right")
    page.click("text=Save the decision")
    page.wait_for_selector("text=What the others said")
    shown = page.inner_text("#pl-disputes")
    assert "because" in shown
    assert "Length: how much is enough; An answer says what is not true" in shown
    assert page.input_value("#pl-example") == "the left one is right"
    page.click("text=Make this an example in the guidelines")
    page.wait_for_function(
        "() => /guidelines are version/.test(document.querySelector('.pl-status').textContent)"
    )
    page.click('[data-tab="guidelines"]')
    assert "Example 1" in on(page, "guidelines").inner_text()
    page.click('[data-tab="disputes"]')
    on(page, "disputes").get_by_role("button", name="Decided", exact=True).click()
    page.wait_for_selector("text=1 decided.")
    assert page.failed == []


def test_the_pictures_of_a_pair_are_seen_in_search_and_in_its_case(chromium, start_app, tmp_path):
    folder = tmp_path / "work.prefkit"
    (folder / "media").mkdir(parents=True)
    (folder / "media" / "cat.png").write_bytes(png(40, 30))
    (folder / "prefkit.yaml").write_text("annotate:\n  k: 2\n")
    asked = Prompt.make([Message("user", (Part("text", "What?"), Part("image", path="cat.png")))])
    one, other = (Completion.make(asked.id, [Message.of("assistant", t)], "m") for t in "xy")
    comparison = Comparison.make(asked, one, other)
    with VoteStore.open(folder / "votes.db") as store:
        store.add([comparison], k=2)
        store.add_votes([vote(comparison, "ana", "a"), vote(comparison, "bo", "b")])
    page = chromium.new_page()
    page.goto(start_app(folder).url + "lead")
    on(page, "progress")
    page.click('[data-tab="search"]')
    on(page, "search")
    page.fill("#pl-q", "What?")
    page.keyboard.press("Enter")
    page.click("#pl-search >> text=Open")
    for tab in ("search", "disputes"):
        if tab == "disputes":
            page.click('[data-tab="disputes"]')
            on(page, tab).get_by_role("button", name="Decide", exact=True).click()
        picture = f"#pl-{tab} .pl-prompt img"
        page.wait_for_function(f"document.querySelector('{picture}')?.naturalWidth === 40")
        assert page.get_attribute(picture, "alt") == "[image: cat.png]"
    page.close()


def test_search_goes_from_words_to_a_pair_and_its_history(page):
    on(page, "progress")
    page.click('[data-tab="search"]')
    on(page, "search")
    page.fill("#pl-q", "because 7")
    page.keyboard.press("Enter")
    page.wait_for_selector(".pl-list li")
    assert "rationale" in page.inner_text("#pl-search")
    page.click("#pl-search >> text=Open")
    page.wait_for_selector("text=What happened")
    shown = page.inner_text("#pl-search")
    assert "question 7" in shown
    assert "Ana" in shown
    page.click("text=Back to the results")
    page.wait_for_selector(".pl-list li")
    page.fill("#pl-q", "Bo")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=a person")
    assert page.failed == []


def test_tabs_go_by_arrow_keys_and_a_reload_keeps_the_tab(page):
    on(page, "progress")
    page.focus('[data-tab="progress"]')
    for name in ("agreement", "bias", "raters"):
        page.keyboard.press("ArrowRight")
        on(page, name)
    page.keyboard.press("Home")
    on(page, "progress")
    page.keyboard.press("ArrowLeft")
    on(page, "export")
    page.reload()
    on(page, "export")
    assert page.get_attribute('[data-tab="export"]', "aria-selected") == "true"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious_and_texts_have_contrast(page, theme, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(page.app.url + f"lead?__theme={theme}")
    on(page, "progress")
    for name in TABS:
        page.click(f'[data-tab="{name}"]')
        on(page, name)
        look(page, name)
    page.click('[data-tab="search"]')
    page.fill("#pl-q", "because 7")
    page.keyboard.press("Enter")
    page.wait_for_selector("#pl-search li")
    look(page, "places found")
    page.click("#pl-search >> text=Open")
    page.wait_for_selector("text=What happened")
    look(page, "a pair and its history")
    page.click('[data-tab="disputes"]')
    on(page, "disputes").get_by_role("button", name="Decide", exact=True).first.click()
    page.wait_for_selector(".pl-decide")
    look(page, "a pair to decide")
    page.get_by_label("Tie").check()
    page.click("text=Save the decision")
    page.wait_for_selector("text=What the others said")
    look(page, "a decided pair")
    if _axe() is None:
        require_component("axe", "pip install axe-playwright-python")


def look(page, what):
    """No text without contrast, nothing that axe calls serious, no scrolling sideways."""
    found = page.evaluate(CONTRAST)
    assert found["seen"] > 5
    assert found["low"] == [], what
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), what
    axe = _axe()
    if axe is not None:
        serious = [
            (each["id"], [node["html"][:120] for node in each["nodes"]])
            for each in axe.run(page).response["violations"]
            if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], what


def _axe():
    if importlib.util.find_spec("axe_playwright_python") is None:
        return None
    from axe_playwright_python.sync_playwright import Axe

    return Axe()
