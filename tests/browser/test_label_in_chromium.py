"""The labelling app as a person meets it: a real process, a real Chromium, keys and clicks."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from rater_pages import done, press, said, settle, wait_for_done, workspace
from store_cases import pair, pairs

from prefkit.aggregation import aggregate
from prefkit.store import VoteStore

pytestmark = pytest.mark.browser

EVIL = (
    "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>\n\n"
    "![beacon](http://evil.example/pixel.png) [click](javascript:document.title='pwned') "
    "${document.title='pwned'} {{constructor.constructor('document.title=1')()}}\n\n"
    "<style>@import 'http://evil.example/x.css'; body{display:none}</style>"
)
CONTRAST = (Path(__file__).parent / "contrast.js").read_text()


def test_three_pairs_by_keyboard_a_reload_an_undo_and_the_preferences(
    chromium, start_app, tmp_path
):
    folder = workspace(tmp_path, pairs(3))
    app = start_app(folder)
    page = chromium.new_page()
    page.goto(app.url)
    settle(page)
    pressed = {}
    for key in ("1", "6", "4"):
        pressed[page.get_attribute(".pk", "data-task")] = key
        press(page, key)
    assert (done(page), page.get_attribute(".pk", "data-state")) == (3, "done")

    page.reload()
    assert settle(page) == "done"
    assert done(page) == 3
    assert page.is_hidden('[data-act="log-out"]')  # nobody logged in

    page.keyboard.press("u")
    wait_for_done(page, 2)
    settle(page)
    undone = page.get_attribute(".pk", "data-task")
    assert pressed.pop(undone) == "4"
    assert done(page) == 2
    pressed[undone] = "7"
    assert press(page, "7") == "done"

    assert app.stop()[0] == 0
    with VoteStore.open(folder / "votes.db") as store:
        preferences = {p.comparison_id: p for p in aggregate(store.comparisons(), store.votes())}
        sides = {v.task_id: v.shown_first for v in store.votes()}
        assert store.verify() == []
        assert len(store.votes()) == 5
    assert preferences.keys() == pressed.keys()
    for task_id, key in pressed.items():
        left_wins = key < "4"
        a_wins = left_wins == (sides[task_id] == "a")
        assert (preferences[task_id].p_a > 0.5) == a_wins


def test_model_text_runs_nothing_and_no_request_leaves_this_machine(chromium, start_app, tmp_path):
    folder = workspace(tmp_path, [pair(EVIL, EVIL + " one", EVIL + " two")])
    app = start_app(folder)
    page = chromium.new_page()
    asked, failed = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.on("console", lambda said: said.type == "error" and failed.append(said.text))
    page.on("dialog", lambda dialog: failed.append(dialog.message))
    page.goto(app.url)
    settle(page)
    page.keyboard.press("g")
    page.wait_for_selector("dialog[open]")
    page.wait_for_timeout(500)
    assert page.title() == "prefkit: label pairs"
    assert "onerror" in page.text_content('[data-slot="left"]')
    assert page.locator(".pk-text :is(img, script, style, iframe, svg)").count() == 0
    assert [url for url in asked if not url.startswith((app.url, "data:", "blob:"))] == []
    assert failed == []


def test_keys_with_modifiers_repeats_and_an_open_dialog_do_not_vote(chromium, start_app, tmp_path):
    app = start_app(workspace(tmp_path, pairs(2)))
    page = chromium.new_page()
    page.goto(app.url)
    settle(page)
    task = page.get_attribute(".pk", "data-task")
    for key in ("Control+1", "Alt+2", "Meta+3", "8", "0", "q", "Enter", "Space"):
        page.keyboard.press(key)
    held = "new KeyboardEvent('keydown', {key: '1', code: 'Digit1', repeat: true, bubbles: true})"
    composed = held.replace("repeat: true", "isComposing: true")
    for event in (held, composed):
        page.evaluate(f"document.body.dispatchEvent({event})")
    page.keyboard.press("g")
    page.keyboard.press("1")
    page.keyboard.press("Escape")
    page.wait_for_timeout(400)
    assert (done(page), page.get_attribute(".pk", "data-task")) == (0, task)
    # The same digit on a layout that types another character there (AZERTY).
    azerty = "new KeyboardEvent('keydown', {key: '&', code: 'Digit1', bubbles: true})"
    page.evaluate(f"document.body.dispatchEvent({azerty})")
    page.wait_for_function("() => document.querySelector('.pk').dataset.done === '1'")


def test_a_double_press_votes_once(chromium, start_app, tmp_path):
    folder = workspace(tmp_path, pairs(3))
    app = start_app(folder)
    page = chromium.new_page()
    page.goto(app.url)
    settle(page)
    # Both from within the page: two presses of a slow test could be far apart.
    page.evaluate(
        "for (const _ of [1, 2]) document.body.dispatchEvent("
        "new KeyboardEvent('keydown', {key: '1', code: 'Digit1', bubbles: true}))"
    )
    wait_for_done(page, 1)
    settle(page)
    page.wait_for_timeout(500)
    assert done(page) == 1
    with VoteStore.open(folder / "votes.db") as store:
        assert len(store.votes()) == 1


def test_every_verdict_can_be_clicked_and_is_named(chromium, start_app, tmp_path):
    folder = workspace(tmp_path, pairs(6))
    app = start_app(folder)
    page = chromium.new_page()
    page.goto(app.url)
    settle(page)
    names = [
        "Left is much better",
        "Tie",
        "Right is slightly better",
        "Both bad",
        "Invalid",
        "Skip",
    ]
    for count, name in enumerate(names, start=1):
        page.get_by_role("button", name=name).click()
        page.wait_for_function(
            "count => document.querySelector('.pk').dataset.done === String(count)", arg=count
        )
        settle(page)
    assert page.get_by_role("heading", name="Nothing left to label").is_visible()
    assert page.text_content('[data-slot="command"]').startswith("prefkit export ")
    with VoteStore.open(folder / "votes.db") as store:
        choices = [(v.choice, v.strength) for v in store.votes()]
    assert [strength for _, strength in choices] == [3, 0, 1, None, None, None]
    assert [choice for choice, _ in choices][3:] == ["both_bad", "invalid", "skip"]


def test_a_vote_cast_while_the_app_is_down_is_saved_once_when_it_is_back(
    chromium, start_app, tmp_path
):
    folder = workspace(tmp_path, pairs(3))
    app = start_app(folder)
    page = chromium.new_page()
    page.goto(app.url)
    settle(page)
    app.stop(signal.SIGKILL)
    page.keyboard.press("2")
    page.get_by_text("Not saved yet").wait_for()
    app.start()
    page.wait_for_function(
        "() => document.querySelector('.pk').dataset.done === '1'", timeout=30_000
    )
    settle(page)
    with VoteStore.open(folder / "votes.db") as store:
        assert [v.strength for v in store.votes()] == [2]
        assert store.verify() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_reads_well_and_has_one_heading(chromium, start_app, tmp_path, scheme, width):
    long = (
        "word " * 80 + "\n\n```\n" + "x" * 300 + "\n```\n\n" + "u" * 300 + "\n\n|a|b|\n|-|-|\n|1|2|"
    )
    app = start_app(workspace(tmp_path, [pair("# Title\n\nhello `code`", long, long + ">")]))
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(app.url)
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("h1").count() == 1
    assert page.evaluate("getComputedStyle(document.querySelector('.pk-turn')).display") == "block"
    left, right = (page.locator(f".pk-{side}").bounding_box() for side in ("left", "right"))
    assert (left["y"] < right["y"]) == (width == 390)
    # Text keeps most of the width: chrome around it is thin.
    assert left["width"] > (0.85 * width if width == 390 else 0.42 * width)
    contrast = page.evaluate(CONTRAST)
    assert contrast["low"] == []
    assert contrast["seen"] > 20
    # The last line of an answer can be scrolled out from under the fixed bar.
    page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
    page.wait_for_timeout(100)
    bottom = page.evaluate("document.querySelector('.pk-right').getBoundingClientRect().bottom")
    assert bottom <= page.evaluate("document.querySelector('.pk-bar').getBoundingClientRect().top")
    context.close()


def test_sigterm_ends_with_0_and_the_counts_as_one_json_line(chromium, start_app, tmp_path):
    app = start_app(workspace(tmp_path, pairs(2)))
    page = chromium.new_page()
    page.goto(app.url)
    settle(page)
    press(page, "3")
    said(page, "Saved: Left is slightly better")
    code, out = app.stop(signal.SIGTERM)
    assert code == 0
    assert json.loads(out.splitlines()[-1])["done"] == 1
    page.close()
