"""Every key can be changed, for this rater and everywhere, and no key is changed by accident."""

from __future__ import annotations

import pytest
from rater_pages import press, settle, task_of, wait_for_done, workspace
from store_cases import pairs

pytestmark = pytest.mark.browser
KEYS = "fetch('/api/v1/me').then(reply => reply.json()).then(me => me.keys)"


@pytest.fixture
def page(chromium):
    context = chromium.new_context()
    yield context.new_page()
    context.close()


def keys_are_with_the_account(page):
    """Wait until no change of a key is kept in this browser alone."""
    page.wait_for_function(
        "() => !Object.keys(localStorage).some(key => key.startsWith('prefkit.wishes.'))"
    )


def test_a_key_can_be_changed_but_not_taken_from_another(page, start_app, tmp_path):
    app = start_app(workspace(tmp_path, pairs(4)))
    page.goto(app.url)
    settle(page)
    page.keyboard.press("?")
    page.get_by_role("button", name="Undo: key u").click()
    page.keyboard.press("x")
    assert "Both bad" in page.text_content('[data-slot="said"]')
    page.keyboard.press("z")
    assert "the key is now z" in page.text_content('[data-slot="said"]')
    page.get_by_role("button", name="Left is much better: key 1").click()
    page.keyboard.press("q")
    page.keyboard.press("?")
    assert page.locator("dialog[open]").count() == 0
    for reloaded in (False, True):
        if reloaded:
            # Kept with the account: a browser that forgot everything knows it too.
            keys_are_with_the_account(page)
            page.evaluate("localStorage.clear()")
            page.reload()
            settle(page)
        task = task_of(page)
        page.keyboard.press("1")
        page.keyboard.press("u")
        page.wait_for_timeout(100)
        assert task_of(page) == task
        press(page, "q")
        wait_for_done(page, 1)
        page.keyboard.press("z")
        wait_for_done(page, 0)
        settle(page)
        assert page.locator('.pk-scale [data-key="1"] kbd').inner_text() == "q"
    page.keyboard.press("?")
    page.get_by_role("button", name="First keys again").click()
    page.keyboard.press("Escape")
    press(page, "1")


def test_keys_changed_faster_than_the_server_answers_are_all_kept(page, start_app, tmp_path):
    app = start_app(workspace(tmp_path, pairs(2)))
    page.goto(app.url)
    settle(page)
    first = []

    def late(route):
        if route.request.method == "PUT" and not first:
            first.append(route)  # goes on only after the second had its chance to overtake it
        else:
            route.continue_()

    page.route("**/api/v1/me", late)
    page.keyboard.press("?")
    page.get_by_role("button", name="Undo: key u").click()
    page.keyboard.press("z")
    page.get_by_role("button", name="Left is much better: key 1").click()
    page.keyboard.press("q")
    page.wait_for_timeout(300)
    (held,) = first
    held.continue_()
    keys_are_with_the_account(page)
    assert page.evaluate(KEYS) == {"1": "q", "undo": "z"}


def test_wishes_made_without_a_network_reach_the_account_later(page, start_app, tmp_path):
    app = start_app(workspace(tmp_path, pairs(2)))
    page.goto(app.url)
    settle(page)
    page.keyboard.press("?")
    page.context.set_offline(True)
    page.get_by_role("button", name="Undo: key u").click()
    page.keyboard.press("z")
    page.select_option('[name="theme"]', "dark")
    page.get_by_text("Kept on this machine only").wait_for()
    page.context.set_offline(False)
    for _ in range(2):  # the second time from the account alone
        page.reload()
        settle(page)
        keys_are_with_the_account(page)
        assert page.evaluate(KEYS) == {"undo": "z"}
        assert page.evaluate("document.body.classList.contains('dark')")
        page.evaluate("localStorage.clear()")


def test_a_change_that_was_left_takes_no_later_key(page, start_app, tmp_path):
    page.goto(start_app(workspace(tmp_path, pairs(2))).url)
    settle(page)
    page.keyboard.press("?")
    page.get_by_role("button", name="Undo: key u").click()
    page.locator('dialog[data-panel="help"] [data-close]').click()
    page.keyboard.press("g")
    page.keyboard.press("z")
    page.keyboard.press("g")
    assert page.locator("dialog[open]").count() == 0
    assert page.locator('[data-rebind="undo"] kbd').text_content() == "u"
