"""An open page hears of new guidelines, and a vote carries those that its rater had before them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from rater_pages import press, settle, task_of, votes_of, wait_for_done, workspace
from store_cases import pairs

from prefkit.store import VoteStore, guidance

pytestmark = pytest.mark.browser
NEWER = "ab12"


@pytest.fixture
def page(chromium):
    context = chromium.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture
def folder(page, start_app, tmp_path):
    """A workspace whose page is open and has its guidelines."""
    made = workspace(tmp_path, pairs(8), ahead=4)
    page.goto(start_app(made).url)
    settle(page)
    page.wait_for_function("document.querySelector('[data-slot=version]').textContent !== ''")
    return made


def change(page, folder, text):
    """Another process of the app puts ``text`` in force, as NEWER; comes back when ours knows."""
    with VoteStore.open(folder / "votes.db") as store, store.database.writing() as connection:
        base = guidance.current(connection).base
        guidance.set_guidelines(connection, NEWER, text, datetime.now(UTC), {"base": base})
    for _ in range(200):
        reply = page.request.get(f"{page.url}api/v1/next")  # this one is never offline
        if reply.json()["guidelines"] == NEWER:
            return
        page.wait_for_timeout(100)
    pytest.fail("the app does not look for new guidelines")


def shown(page):
    return page.text_content('[data-slot="version"]').removeprefix("Version ")


def test_who_knows_the_old_text_is_shown_the_new_one_and_votes_say_which(page, folder):
    page.keyboard.press("g")
    page.keyboard.press("g")
    first = shown(page)
    change(page, folder, "Be *strict*.")
    press(page, "1")  # on the text that is on the page still; its reply tells of the new one
    page.get_by_text("Be strict.").wait_for()
    task = task_of(page)
    page.keyboard.press("1")
    assert (task_of(page), shown(page)) == (task, NEWER)
    page.keyboard.press("g")
    press(page, "2")
    wait_for_done(page, 2)
    votes, faults = votes_of(folder)
    assert [vote.guideline_version for vote in votes] == [first, NEWER]
    assert faults == []


def test_a_vote_made_without_a_network_carries_the_text_of_its_time(page, folder):
    first = shown(page)
    page.context.set_offline(True)
    press(page, "1")
    press(page, "2")
    change(page, folder, "Be strict.")
    page.context.set_offline(False)
    wait_for_done(page, 2)
    page.wait_for_function(
        "v => document.querySelector('[data-slot=version]').textContent.endsWith(v)", arg=NEWER
    )
    # Who never opened them is not stopped by them.
    assert page.locator("dialog[open]").count() == 0
    assert page.locator(".pk-new").is_visible()
    press(page, "3")
    wait_for_done(page, 3)
    votes, _ = votes_of(folder)
    assert [vote.guideline_version for vote in votes] == [first, first, NEWER]


def test_half_a_word_is_not_interrupted(page, folder):
    page.keyboard.press("g")
    page.keyboard.press("g")
    first = shown(page)
    change(page, folder, "Be kind.")
    held = []
    page.route("**/api/v1/votes", lambda route: held.append(route), times=1)
    press(page, "4")
    page.keyboard.press("r")
    page.keyboard.type("bec")
    with page.expect_response("**/api/v1/guidelines"):
        held[0].continue_()
    page.keyboard.type("ause")
    assert (page.input_value("#pk-reason"), shown(page)) == ("because", first)
    page.keyboard.press("Escape")
    press(page, "1")
    page.get_by_text("Be kind.").wait_for()
    wait_for_done(page, 2)
    votes, _ = votes_of(folder)
    assert [vote.guideline_version for vote in votes] == [first, first]
