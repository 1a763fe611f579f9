"""On a phone: nothing sticks out, each button can be seen, hit and read, a finger does it all."""

from __future__ import annotations

import pytest
from rater_pages import done, said, settle, task_of, votes_of, wait_for_done, workspace
from store_cases import pair, pairs

pytestmark = pytest.mark.browser
LONG = "Two words and a `line of code`.\n\n" * 20 + "```\n" + "x" * 200 + "\n```"
SMALLEST = 24  # CSS pixels, WCAG 2.2 2.5.8
# What is wrong with the buttons that can be seen, by what is written on them.
FAULTS = """
([selector, smallest]) => [...document.querySelectorAll(selector)].flatMap((button) => {
  if (!button.checkVisibility({ visibilityProperty: true })) return [];
  button.scrollIntoView({ block: "center" });
  const box = button.getBoundingClientRect();
  const found = [];
  if (box.left < 0 || box.right > innerWidth || box.top < 0 || box.bottom > innerHeight)
    found.push("sticks out");
  if (box.width < smallest || box.height < smallest) found.push("small");
  if (button.scrollWidth > button.clientWidth + 1) found.push("clipped");
  const hit = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
  if (!button.contains(hit)) found.push("covered");
  return found.map((fault) => [button.textContent.trim(), fault]);
})
"""


@pytest.fixture(params=[(360, 640), (390, 844)], ids=["small", "usual"])
def phone(chromium, request):
    """``phone(locale="en") -> page`` with a touch screen."""
    width, height = request.param
    contexts = []

    def opened(locale="en"):
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            has_touch=True,
            is_mobile=True,
            device_scale_factor=2,
            locale=locale,
        )
        contexts.append(context)
        return context.new_page()

    yield opened
    for context in contexts:
        context.close()


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def faults_of(page, selector=".pk button, .pk a, .pk select"):
    return page.evaluate(FAULTS, [selector, SMALLEST])


@pytest.mark.parametrize("locale", ["en", "fr", "es", "zh"])
def test_every_button_can_be_read_and_reached(phone, start_app, tmp_path, locale):
    folder = workspace(
        tmp_path, [pair(LONG, LONG, LONG + "!")], aspects=["helpfulness", "style"], confidence=True
    )
    page = phone(locale)
    page.goto(start_app(folder).url)
    settle(page)
    assert page.evaluate("document.documentElement.lang") == locale
    assert (fits(page), faults_of(page)) == (True, [])
    # The answers keep more than half of the window.
    assert page.evaluate("document.querySelector('.pk-bar').offsetHeight < 0.4 * innerHeight")
    page.locator('[data-act="flag"]').tap()
    page.locator('[data-act="reason"]').tap()
    assert page.locator("#pk-note").is_visible()
    assert (fits(page), faults_of(page)) == (True, [])
    for name in ("help", "guidelines", "history", "edit"):
        page.locator(f'.pk :not(dialog) [data-act="{name}"]').tap()
        page.locator(f'dialog[data-panel="{name}"]').wait_for()
        assert (name, fits(page), faults_of(page, "dialog[open] :is(button, select)")) == (
            name, True, [],
        )  # fmt: skip
        page.locator("dialog[open] [data-close]").tap()
    page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
    page.wait_for_timeout(100)
    bottom = page.evaluate("document.querySelector('.pk-extra').getBoundingClientRect().bottom")
    assert bottom <= page.evaluate("document.querySelector('.pk-bar').getBoundingClientRect().top")


def test_a_finger_votes_rates_takes_back_and_changes(phone, start_app, tmp_path):
    folder = workspace(tmp_path, pairs(4), aspects=["style"])
    page = phone()
    page.goto(start_app(folder).url)
    settle(page)
    first = task_of(page)
    page.get_by_role("group", name="Style").get_by_role("button", name="left").tap()
    page.get_by_role("button", name="Left is better").tap()
    wait_for_done(page, 1)
    settle(page)
    page.locator('.pk-bar [data-act="undo"]').tap()
    page.wait_for_function("t => document.querySelector('.pk').dataset.task === t", arg=first)
    settle(page)
    assert page.locator('.pk-choice[aria-pressed="true"]').inner_text().endswith("left")
    page.get_by_role("button", name="Right is much better").tap()
    wait_for_done(page, 1)
    said(page, "Saved")
    page.get_by_role("button", name="My votes").tap()
    page.locator('[data-slot="history"] button').first.tap()
    said(page, "You said")
    settle(page)
    page.get_by_role("button", name="Tie", exact=True).tap()
    said(page, "Saved: Tie")
    assert done(page) == 1
    votes, faults = votes_of(folder)
    assert faults == []
    assert [vote.strength for vote in votes] == [2, None, 3, 0]
    assert all(vote.aspects for vote in votes if vote.choice != "withdrawn")


def test_an_old_vote_can_be_left_without_a_keyboard(phone, start_app, tmp_path):
    folder = workspace(tmp_path, pairs(3))
    page = phone()
    page.goto(start_app(folder).url)
    settle(page)
    page.get_by_role("button", name="Tie", exact=True).tap()
    wait_for_done(page, 1)
    settle(page)
    current = task_of(page)
    page.get_by_role("button", name="My votes").tap()
    page.locator('[data-slot="history"] button').first.tap()
    said(page, "You said")
    settle(page)
    page.locator('.pk-bar [data-act="undo"]').tap()
    page.wait_for_function("t => document.querySelector('.pk').dataset.task === t", arg=current)
    votes, faults = votes_of(folder)
    assert ([vote.strength for vote in votes], faults) == ([0], [])


def test_a_reason_that_is_asked_for_can_be_sent_without_a_keyboard(phone, start_app, tmp_path):
    folder = workspace(tmp_path, pairs(2), rationale_at=3)
    page = phone()
    page.goto(start_app(folder).url)
    settle(page)
    page.get_by_role("button", name="Tie", exact=True).tap()
    wait_for_done(page, 1)
    settle(page)
    assert page.locator('[data-act="send"]').is_hidden()
    page.get_by_role("button", name="Left is much better").tap()
    said(page, "why?")
    page.fill("#pk-reason", "shorter")
    page.get_by_role("button", name="Send the vote").tap()
    wait_for_done(page, 2)
    votes, faults = votes_of(folder)
    assert [(vote.strength, vote.rationale) for vote in votes] == [(0, None), (3, "shorter")]
    assert faults == []
