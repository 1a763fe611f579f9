"""What keys do: one for a graded vote, few for all else, and every one of them can be changed."""

from __future__ import annotations

import pytest
from rater_pages import (
    done,
    press,
    said,
    settle,
    task_of,
    votes_of,
    wait_for_done,
    workspace,
)
from store_cases import pair, pairs

from prefkit.core.records import Comparison, Completion, Message, Prompt
from prefkit.store import VoteStore

pytestmark = pytest.mark.browser
ASPECTS = ["helpfulness", "factuality", "style"]
COUNT = """
window.pressed = 0;
for (const kind of ["keydown", "pointerdown"])
  document.addEventListener(kind, () => { window.pressed += 1; }, true);
"""


@pytest.fixture
def page(chromium):
    """A page that counts what is pressed on it."""
    context = chromium.new_context()
    opened = context.new_page()
    opened.add_init_script(COUNT)
    yield opened
    context.close()


def pressed(page):
    """How many keys and buttons were pressed since the last call."""
    return page.evaluate("() => { const n = window.pressed; window.pressed = 0; return n; }")


def test_the_keystrokes_of_five_tasks(page, start_app, tmp_path):
    """plain 1 (which is better), strength 1, strength and three aspects 5, tie 1, and 2 to mend
    the vote before."""
    folder = workspace(tmp_path, pairs(8), aspects=ASPECTS)
    page.goto(start_app(folder).url)
    settle(page)
    counts = {}
    pressed(page)
    press(page, "6")
    counts["plain"] = pressed(page)
    press(page, "1")
    counts["strength"] = pressed(page)
    for key in ("a", "1", "3", "2"):
        page.keyboard.press(key)
    press(page, "7")
    counts["strength and three aspects"] = pressed(page)
    press(page, "4")
    counts["tie"] = pressed(page)
    wait_for_done(page, 4)
    mended = task_of(page)
    page.keyboard.press("u")
    page.wait_for_function("t => document.querySelector('.pk').dataset.task !== t", arg=mended)
    settle(page)
    press(page, "5")
    counts["mend the one before"] = pressed(page)
    wait_for_done(page, 4)
    assert counts == {
        "plain": 1,
        "strength": 1,
        "strength and three aspects": 5,
        "tie": 1,
        "mend the one before": 2,
    }
    votes, faults = votes_of(folder)
    assert faults == []
    assert [vote.strength for vote in votes] == [2, 3, 3, 0, None, 1]
    rated = votes[2]
    left, right = ("a", "b") if rated.shown_first == "a" else ("b", "a")
    assert rated.aspects == {"helpfulness": left, "factuality": right, "style": "tie"}
    assert all(vote.aspects == {} for vote in votes if vote is not rated)


def test_the_questions_are_in_view_however_long_the_answers_are(page, start_app, tmp_path):
    long = "A line.\n\n" * 60
    folder = workspace(tmp_path, [pair("q", long, long + "More.")], aspects=ASPECTS)
    page.goto(start_app(folder).url)
    settle(page)
    boxes = (
        "[...document.querySelectorAll('.pk-extra, .pk-bar')].map(e => e.getBoundingClientRect())"
    )
    extra, bar = page.evaluate(boxes)
    assert 0 < extra["top"] < extra["bottom"] <= bar["top"]
    page.keyboard.press("r")
    page.wait_for_timeout(100)
    box = page.locator("#pk-reason").bounding_box()
    assert box["y"] + box["height"] <= page.evaluate(boxes)[1]["top"]


def test_reason_confidence_edit_and_flag_go_with_the_vote(page, start_app, tmp_path):
    folder = workspace(tmp_path, [pair("q", "one answer", "two answers")], confidence=True)
    page.goto(start_app(folder).url)
    settle(page)
    page.keyboard.press("a")
    page.keyboard.press("4")
    page.keyboard.press("r")
    page.keyboard.type("It is 1 word shorter? ux7")
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    page.keyboard.type("odd, 1 of 7: u")
    page.keyboard.press("Enter")
    said(page, "Flagged")
    page.keyboard.press("e")
    assert page.input_value("#pk-edit") in ("one answer", "two answers")
    page.get_by_role("radio", name="Right").check()
    page.fill("#pk-edit", "a better answer")
    page.keyboard.press("Control+Enter")
    # A vote for the other side would throw the edit away.
    page.keyboard.press("1")
    said(page, "You edited the answer on the right")
    page.keyboard.press("6")
    wait_for_done(page, 1)
    (vote,), faults = votes_of(folder)
    assert faults == []
    assert (vote.strength, vote.confidence, vote.edit) == (2, 0.75, "a better answer")
    assert vote.rationale == "It is 1 word shorter? ux7"
    with VoteStore.open(folder / "votes.db") as store, store.database.reading() as connection:
        notes = connection.exec_driver_sql("SELECT text FROM texts WHERE field = 'note'").all()
        flags = connection.exec_driver_sql("SELECT COUNT(*) FROM flags").scalar()
    assert ([note for (note,) in notes], flags) == (["odd, 1 of 7: u"], 1)


def test_a_strong_vote_asks_for_its_reason_once(page, start_app, tmp_path):
    folder = workspace(tmp_path, pairs(3), rationale_at=3)
    page.goto(start_app(folder).url)
    settle(page)
    press(page, "6")
    task = task_of(page)
    page.keyboard.press("7")
    said(page, "why?")
    assert task_of(page) == task
    page.keyboard.type("much clearer")
    page.keyboard.press("Control+Enter")
    wait_for_done(page, 2)
    settle(page)
    page.keyboard.press("1")
    said(page, "why?")
    page.keyboard.press("Escape")
    wait_for_done(page, 3)
    votes, _ = votes_of(folder)
    assert [vote.rationale for vote in votes] == [None, "much clearer", None]


def test_an_old_vote_can_be_looked_at_and_changed(page, start_app, tmp_path):
    folder = workspace(tmp_path, pairs(4))
    page.goto(start_app(folder).url)
    settle(page)
    first = task_of(page)
    press(page, "1")
    press(page, "4")
    wait_for_done(page, 2)
    current = task_of(page)
    page.keyboard.press("h")
    rows = page.locator('[data-slot="history"] button')
    rows.nth(1).wait_for()
    assert rows.all_inner_texts() == ["Tie", "Left is much better"]
    rows.nth(1).click()
    page.wait_for_function("t => document.querySelector('.pk').dataset.task === t", arg=first)
    settle(page)
    assert page.locator('.pk-scale [aria-pressed="true"]').get_attribute("data-key") == "1"
    page.keyboard.press("Escape")
    page.wait_for_function("t => document.querySelector('.pk').dataset.task === t", arg=current)
    settle(page)
    page.keyboard.press("h")
    rows.nth(1).click()
    page.wait_for_function("t => document.querySelector('.pk').dataset.task === t", arg=first)
    settle(page)
    press(page, "7")
    said(page, "Saved")
    assert (task_of(page), done(page)) == (current, 2)
    votes, faults = votes_of(folder)
    assert faults == []
    assert (votes[-1].task_id, votes[-1].strength, votes[-1].replaces) == (first, 3, votes[0].id)


def dispatch(page, key, code):
    page.evaluate(
        "([key, code]) => document.body.dispatchEvent(new KeyboardEvent('keydown',"
        " {key, code, bubbles: true, cancelable: true}))",
        [key, code],
    )


OTHER_KEYBOARDS = [
    ("&", "Digit1", "vote"),  # AZERTY types the digit with Shift only
    ("1", "Numpad1", "vote"),
    ("End", "Numpad1", ""),  # without NumLock it scrolls
    ("PageDown", "Numpad3", ""),
    ("x", "KeyX", "vote"),
    ("X", "KeyX", "vote"),  # Caps Lock
    ("ч", "KeyX", "vote"),  # a Russian keyboard: by place
    ("q", "KeyA", ""),  # AZERTY's q lies where a is: letters go by what they write
    ("?", "Digit6", "help"),  # where ? is typed with Shift and a digit
    ("!", "Slash", ""),
    (" ", "Space", ""),
    ("Enter", "Enter", ""),
]


def test_a_button_that_enter_holds_down_votes_once(page, start_app, tmp_path):
    folder = workspace(tmp_path, pairs(4))
    page.goto(start_app(folder).url)
    settle(page)
    page.locator('.pk-bar [data-key="2"]').focus()
    for _ in range(3):
        page.keyboard.down("Enter")
        page.wait_for_timeout(100)
        settle(page)
    page.keyboard.up("Enter")
    wait_for_done(page, 1)
    page.keyboard.press("Enter")  # pressed anew it is meant
    wait_for_done(page, 2)
    votes, _ = votes_of(folder)
    assert [vote.strength for vote in votes] == [2, 2]


def test_keys_of_other_keyboards(page, start_app, tmp_path):
    page.goto(start_app(workspace(tmp_path, pairs(8))).url)
    did = []
    for key, code, _ in OTHER_KEYBOARDS:
        settle(page)
        task = task_of(page)
        dispatch(page, key, code)
        page.wait_for_timeout(50)
        helps = page.locator('dialog[data-panel="help"]').is_visible()
        did.append((key, code, "help" if helps else "vote" if task_of(page) != task else ""))
        if helps:
            page.keyboard.press("Escape")
    assert did == OTHER_KEYBOARDS


def test_raw_text_differences_and_earlier_turns(page, start_app, tmp_path):
    asked = Prompt.make(
        [
            Message.of("system", "be kind"),
            Message.of("user", "hi"),
            Message.of("assistant", "hello"),
            Message.of("user", "and then?"),
        ]
    )
    answers = [
        Completion.make(asked.id, [Message.of("assistant", text)], "m")
        for text in ("the **quick** brown fox", "the **slow** brown fox")
    ]
    folder = workspace(tmp_path, [Comparison.make(asked, *answers), pair("b"), pair("c")])
    page.goto(start_app(folder).url)
    settle(page)
    while "fox" not in page.text_content('[data-slot="left"]'):
        press(page, "s")
    prompt = page.locator('[data-slot="prompt"]')
    assert prompt.inner_text().endswith("and then?")
    assert "be kind" not in prompt.inner_text()
    page.keyboard.press("p")
    assert "be kind" in prompt.inner_text()
    assert page.locator(".pk-unfold").get_attribute("aria-expanded") == "true"

    page.keyboard.press("d")
    marks = {
        side: page.locator(f'[data-slot="{side}"] mark').all_inner_texts()
        for side in ("left", "right")
    }
    assert sorted(marks.values()) == [["quick"], ["slow"]]
    page.keyboard.press("m")
    assert "**" in page.locator('[data-slot="left"]').inner_text()
    assert page.locator('[data-slot="left"] strong').count() == 0
    page.keyboard.press("m")
    assert page.locator('[data-slot="left"] strong').count() == 1


def test_guidelines_are_noted_with_their_version_and_a_new_one_is_shown(page, start_app, tmp_path):
    folder = workspace(tmp_path, pairs(3))
    app = start_app(folder)
    page.goto(app.url)
    settle(page)
    new = page.get_by_role("button", name="Guidelines").get_by_text("new")
    new.wait_for()
    page.keyboard.press("g")
    version = page.text_content('[data-slot="version"]').removeprefix("Version ")
    page.keyboard.press("g")
    assert not new.is_visible()
    press(page, "1")
    wait_for_done(page, 1)
    votes, _ = votes_of(folder)
    assert votes[0].guideline_version == version
    app.stop()
    (folder / "prefkit.yaml").write_text("annotate: {guidelines: Be strict.}\n")
    app.start()
    page.reload()
    page.get_by_text("Be strict.").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_function(
        "() => !Object.keys(localStorage).some(k => k.startsWith('prefkit.out.'))"
    )
    with VoteStore.open(folder / "votes.db") as store, store.database.reading() as connection:
        seen = connection.exec_driver_sql("SELECT COUNT(*) FROM events WHERE kind = 'guidelines'")
        assert seen.scalar() == 2


def test_the_page_speaks_the_browsers_language_or_the_one_chosen(chromium, start_app, tmp_path):
    app = start_app(workspace(tmp_path, pairs(2)))
    context = chromium.new_context(locale="fr-FR")
    page = context.new_page()
    page.goto(app.url)
    settle(page)
    assert page.inner_text("h1") == "Quelle réponse est la meilleure ?"
    assert page.evaluate("document.documentElement.lang") == "fr"
    page.keyboard.press("?")
    with page.expect_response("**/api/v1/me"):
        page.select_option('[name="locale"]', "zh")
    assert page.inner_text("h1") == "哪个回答更好？"
    with page.expect_response("**/api/v1/me"):
        page.select_option('[name="theme"]', "dark")
    page.keyboard.press("Escape")
    page.reload()
    settle(page)
    page.wait_for_function("document.documentElement.lang === 'zh'")
    assert page.evaluate("document.body.classList.contains('dark')")
    context.close()
