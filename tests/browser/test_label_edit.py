"""A better answer that is written on the page: no key of it is lost, and all of it arrives."""

from __future__ import annotations

import pytest
from rater_pages import press, said, settle, task_of, votes_of, wait_for_done, workspace
from store_cases import pair, pairs

pytestmark = pytest.mark.browser
LONGEST = 32_000


@pytest.fixture
def page(chromium):
    context = chromium.new_context()
    yield context.new_page()
    context.close()


def choose(page, side):
    page.get_by_role("radio", name=side).check()


def test_what_is_typed_outlives_escape_the_other_side_and_a_reload(page, start_app, tmp_path):
    folder = workspace(tmp_path, [pair("q", "one", "two"), pair("r")])
    page.goto(start_app(folder).url)
    settle(page)
    task = task_of(page)
    page.keyboard.press("e")
    page.keyboard.type("begun on the left ")
    left = page.input_value("#pk-edit")
    choose(page, "Right")
    page.fill("#pk-edit", "begun on the right")
    choose(page, "Left")
    assert page.input_value("#pk-edit") == left
    page.keyboard.press("Escape")
    page.reload()
    settle(page)
    assert task_of(page) == task
    page.keyboard.press("e")
    choose(page, "Left")
    assert page.input_value("#pk-edit") == left
    choose(page, "Right")
    assert page.input_value("#pk-edit") == "begun on the right"
    page.locator("#pk-edit").press("Control+Enter")
    press(page, "6")
    wait_for_done(page, 1)
    (vote,), faults = votes_of(folder)
    assert (vote.edit, faults) == ("begun on the right", [])


def test_what_was_not_kept_does_not_go_with_the_vote(page, start_app, tmp_path):
    folder = workspace(tmp_path, pairs(2))
    page.goto(start_app(folder).url)
    settle(page)
    page.keyboard.press("e")
    page.keyboard.type("only tried")
    page.keyboard.press("Escape")
    press(page, "7")
    wait_for_done(page, 1)
    (vote,), _ = votes_of(folder)
    assert vote.edit is None


def test_text_with_other_line_ends_is_no_edit_until_it_is_changed(page, start_app, tmp_path):
    folder = workspace(tmp_path, [pair("q", "one\r\nline", "two\rlines\r\n")])
    page.goto(start_app(folder).url)
    settle(page)
    page.keyboard.press("e")
    page.keyboard.press("Control+Enter")
    said(page, "No edit")
    press(page, "7")
    wait_for_done(page, 1)
    (vote,), _ = votes_of(folder)
    assert (vote.strength, vote.edit) == (3, None)


def test_the_longest_edit_in_chinese_arrives(page, start_app, tmp_path):
    folder = workspace(tmp_path, pairs(2))
    page.goto(start_app(folder).url)
    settle(page)
    text, reason = "好" * LONGEST, "因" * 4000
    page.keyboard.press("r")
    page.fill("#pk-reason", reason)
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    choose(page, "Left")
    page.fill("#pk-edit", text)
    page.keyboard.press("Control+Enter")
    press(page, "1")
    wait_for_done(page, 1)
    (vote,), faults = votes_of(folder)
    assert (vote.edit, vote.rationale, faults) == (text, reason, [])


def test_an_edit_that_is_too_long_is_said_before_the_vote(page, start_app, tmp_path):
    """A field holds nobody from editing an answer that is longer than what they could type."""
    long = "word " * 8000
    folder = workspace(tmp_path, [pair("q", long, long + "more")])
    page.goto(start_app(folder).url)
    settle(page)
    page.keyboard.press("e")
    page.keyboard.press("Delete")
    page.keyboard.press("Control+Enter")
    field = page.locator("#pk-edit")
    assert (
        field.evaluate("e => e.validationMessage") == f"An edit has at most {LONGEST} characters."
    )
    assert page.locator('dialog[data-panel="edit"]').is_visible()
    page.fill("#pk-edit", "short")
    page.keyboard.press("Control+Enter")
    said(page, "goes with your vote")
