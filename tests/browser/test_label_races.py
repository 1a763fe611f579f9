"""Requests that never end, are answered by somebody else, or meet another one on the way."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
from rater_pages import (
    done,
    press,
    said,
    settle,
    task_of,
    unsent,
    votes_of,
    wait_for_done,
    workspace,
)
from store_cases import pairs

pytestmark = pytest.mark.browser
STATE = "document.querySelector('.pk').dataset.state"


@pytest.fixture
def page(chromium):
    context = chromium.new_context()
    yield context.new_page()
    context.close()


@contextmanager
def replying(page, path, *answers):
    """The first requests to ``path`` are answered by these (route → None), the rest by the app."""
    left = list(answers)

    def answer(route):
        (left.pop(0) if left else type(route).continue_)(route)

    page.route(path, answer)
    yield
    assert left == [], "not asked so often"
    page.unroute(path)


def test_a_request_that_is_never_answered_is_sent_again(page, start_app, tmp_path):
    """A connection that ended while the machine slept says nothing, for as long as one waits."""
    folder = workspace(tmp_path, pairs(3))
    page.clock.install()
    page.goto(start_app(folder).url)
    settle(page)
    with replying(page, "**/api/v1/votes", lambda route: None):
        page.keyboard.press("1")
        page.wait_for_timeout(300)
        assert len(unsent(page)) == 1
        page.clock.fast_forward(31_000)
        said(page, "the app does not answer")
        page.clock.fast_forward(2_000)
        wait_for_done(page, 1)
    votes, faults = votes_of(folder)
    assert ([vote.strength for vote in votes], faults) == ([3], [])


def test_what_is_no_answer_of_the_app_saves_no_vote_and_drops_none(page, start_app, tmp_path):
    """A page of a proxy or of a network that wants a log-in: 200, 404, 413, or cut off."""
    folder = workspace(tmp_path, pairs(3))
    page.goto(start_app(folder).url)
    settle(page)
    strange = "<html><body>Welcome to the hotel</body></html>"

    def says(status):
        return lambda route: route.fulfill(status=status, content_type="text/html", body=strange)

    def cut(route):
        route.fulfill(status=200, content_type="application/json", body='{"saved": {')

    with replying(page, "**/api/v1/votes", says(200), says(404), cut):
        page.keyboard.press("2")
        said(page, "Not saved yet: 1 (the app does not answer)")
        wait_for_done(page, 1)
    votes, faults = votes_of(folder)
    assert ([vote.strength for vote in votes], faults) == ([2], [])


def test_a_vote_that_cannot_be_taken_comes_again_with_all_that_was_written(
    page, start_app, tmp_path
):
    folder = workspace(tmp_path, pairs(4))
    page.goto(start_app(folder).url)
    settle(page)
    task = task_of(page)
    page.keyboard.press("r")
    page.keyboard.type("a long thought")
    page.keyboard.press("Escape")
    refusal = json.dumps({"error": "something is too long"})
    with replying(
        page,
        "**/api/v1/votes",
        lambda route: route.fulfill(status=422, content_type="application/json", body=refusal),
    ):
        press(page, "1")
        said(page, "Not saved: something is too long")
    assert press(page, "4") == "ready"
    assert task_of(page) == task
    assert page.input_value("#pk-reason") == "a long thought"
    press(page, "7")
    wait_for_done(page, 2)
    votes, faults = votes_of(folder)
    assert faults == []
    assert [(vote.strength, vote.rationale) for vote in votes] == [(0, None), (3, "a long thought")]


def test_what_to_show_is_asked_once_at_a_time(page, start_app, tmp_path):
    """An older answer would bring back a pair that was judged meanwhile."""
    page.goto(start_app(workspace(tmp_path, pairs(3))).url)
    settle(page)
    held = []
    page.route("**/api/v1/next", lambda route: held.append(route))
    page.reload()
    page.wait_for_function("window.prefkitListeners !== undefined")
    for _ in range(100):
        if held:
            break
        page.wait_for_timeout(50)
    for event in ("online", "visibilitychange"):
        page.evaluate(
            "name => (name === 'online' ? window : document).dispatchEvent(new Event(name))", event
        )
    page.wait_for_timeout(300)
    assert len(held) == 1, "asked again while the first answer was on its way"
    held[0].continue_()
    assert settle(page) == "ready"


def test_votes_are_listed_once_however_fast_the_list_is_opened(page, start_app, tmp_path):
    page.goto(start_app(workspace(tmp_path, pairs(4))).url)
    settle(page)
    press(page, "1")
    press(page, "4")
    wait_for_done(page, 2)
    first = []
    with replying(page, "**/api/v1/history?*", lambda route: first.append(route)):
        page.keyboard.press("h")
        page.keyboard.press("h")
        page.keyboard.press("h")
        rows = page.locator('[data-slot="history"] li')
        rows.nth(1).wait_for()
        first[0].continue_()
        page.wait_for_timeout(300)
    assert rows.count() == 2


def test_who_goes_on_is_not_called_back_by_an_old_vote_that_comes_late(page, start_app, tmp_path):
    page.goto(start_app(workspace(tmp_path, pairs(4))).url)
    settle(page)
    press(page, "1")
    wait_for_done(page, 1)
    page.keyboard.press("h")
    row = page.locator('[data-slot="history"] button')
    row.wait_for()
    late = []
    with replying(page, "**/api/v1/history/*", lambda route: late.append(route)):
        row.click()
        settle(page)
        press(page, "7")
        wait_for_done(page, 2)
        current = task_of(page)
        late[0].continue_()
        page.wait_for_timeout(300)
    assert task_of(page) == current
    assert page.locator(".pk-bar [aria-pressed='true']").count() == 0


def test_who_leaves_an_old_vote_while_others_hold_the_rest_goes_on_waiting(
    page, start_app, tmp_path
):
    page.goto(start_app(workspace(tmp_path, pairs(1))).url)
    settle(page)

    def waiting(route):
        reply = route.fetch()
        told = {**reply.json(), "state": "waiting", "pairs": [], "retry_s": 1}
        route.fulfill(response=reply, body=json.dumps(told))

    page.route("**/api/v1/votes", waiting)
    page.route("**/api/v1/next", waiting)
    page.keyboard.press("1")
    page.wait_for_function(f"{STATE} === 'waiting'")
    page.keyboard.press("h")
    page.locator('[data-slot="history"] button').click()
    settle(page)
    page.wait_for_timeout(1500)  # the time to ask again comes meanwhile
    page.keyboard.press("Escape")
    page.wait_for_function(f"{STATE} === 'waiting'")
    assert done(page) == 1


def test_a_page_that_nobody_touches_lets_its_pairs_go_to_others(page, start_app, tmp_path):
    page.clock.install()
    page.goto(start_app(workspace(tmp_path, pairs(2))).url)
    settle(page)
    beats = []
    page.on("request", lambda asked: asked.url.endswith("/heartbeat") and beats.append(asked))

    def minutes(n):
        for _ in range(n):
            page.clock.fast_forward(61_000)
        page.wait_for_timeout(200)
        found = len(beats)
        beats.clear()
        return found

    assert minutes(10) >= 8
    minutes(25)
    assert minutes(10) == 0
    page.mouse.move(200, 200)
    assert minutes(5) >= 3
