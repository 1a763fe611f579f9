"""Votes survive what happens to networks, servers, pages and browsers: none lost, none twice."""

from __future__ import annotations

import signal

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


@pytest.fixture
def context(chromium):
    opened = chromium.new_context()
    yield opened
    opened.close()


def test_twenty_votes_without_a_network_arrive_once_and_in_order(context, start_app, tmp_path):
    folder = workspace(tmp_path, pairs(30), ahead=24)
    app = start_app(folder)
    page = context.new_page()
    page.goto(app.url)
    settle(page)
    context.set_offline(True)
    pressed = []
    for n in range(20):
        key = "1234567xis"[n % 10]
        pressed.append((task_of(page), key))
        press(page, key)
    said(page, "Not saved yet")
    assert (done(page), len(unsent(page))) == (0, 20)
    context.set_offline(False)
    wait_for_done(page, 20)
    said(page, "Saved")
    assert unsent(page) == []
    votes, faults = votes_of(folder)
    assert faults == []
    assert [vote.task_id for vote in votes] == [task for task, _ in pressed]
    strengths = {"1": 3, "2": 2, "3": 1, "4": 0, "5": 1, "6": 2, "7": 3}
    assert [vote.strength for vote in votes] == [strengths.get(key) for _, key in pressed]


def test_votes_outlive_the_app_and_the_page(context, start_app, tmp_path):
    folder = workspace(tmp_path, pairs(8), ahead=4)
    app = start_app(folder)
    page = context.new_page()
    page.goto(app.url)
    settle(page)
    app.stop(signal.SIGKILL)
    tasks = [task_of(page)]
    for key in ("1", "7"):
        press(page, key)
        tasks.append(task_of(page))
    assert len(unsent(page)) == 2
    page.close(run_before_unload=False)
    app.start()
    page = context.new_page()
    page.goto(app.url)
    wait_for_done(page, 2)
    settle(page)
    # The pair that was in view is in view again.
    assert task_of(page) == tasks[2]
    votes, faults = votes_of(folder)
    assert ([vote.task_id for vote in votes], faults) == (tasks[:2], [])


def test_a_reload_shows_the_same_pair_and_what_was_written_about_it(context, start_app, tmp_path):
    app = start_app(workspace(tmp_path, pairs(4), aspects=["style"]))
    page = context.new_page()
    page.goto(app.url)
    settle(page)
    task, left = task_of(page), page.text_content('[data-slot="left"]')
    page.keyboard.press("r")
    page.keyboard.type("because 1 of them")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    page.keyboard.press("3")
    page.reload()
    settle(page)
    assert (task_of(page), page.text_content('[data-slot="left"]')) == (task, left)
    assert page.input_value("#pk-reason") == "because 1 of them"
    assert page.locator('.pk-choice[aria-pressed="true"]').inner_text().endswith("right")


def test_a_vote_whose_reply_is_lost_counts_once(context, start_app, tmp_path):
    folder = workspace(tmp_path, pairs(4))
    app = start_app(folder)
    page = context.new_page()
    lost = []

    def lose(route):
        route.fetch()
        if len(lost) < 2:
            lost.append(1)
            route.abort()
        else:
            route.continue_()

    page.route("**/api/v1/votes", lose)
    page.goto(app.url)
    settle(page)
    press(page, "2")
    wait_for_done(page, 1)
    assert len(lost) == 2
    votes, faults = votes_of(folder)
    assert ([vote.strength for vote in votes], faults) == ([2], [])


def test_an_undo_without_a_network_takes_the_vote_back_and_the_next_one_stands(
    context, start_app, tmp_path
):
    folder = workspace(tmp_path, pairs(6), ahead=4)
    app = start_app(folder)
    page = context.new_page()
    page.goto(app.url)
    settle(page)
    first = task_of(page)
    context.set_offline(True)
    press(page, "1")
    second = task_of(page)
    page.keyboard.press("u")
    page.wait_for_function("t => document.querySelector('.pk').dataset.task === t", arg=first)
    settle(page)
    press(page, "6")
    assert task_of(page) == second
    assert [entry["kind"] for entry in unsent(page)] == ["vote", "undo", "vote"]
    context.set_offline(False)
    page.wait_for_function(
        "() => !Object.keys(localStorage).some(k => k.startsWith('prefkit.out.'))", timeout=30_000
    )
    assert (done(page), task_of(page)) == (1, second)
    votes, faults = votes_of(folder)
    assert faults == []
    assert [(v.task_id, v.choice != "withdrawn", v.strength) for v in votes] == [
        (first, True, 3),
        (first, False, None),
        (first, True, 2),
    ]


def test_two_tabs_judge_a_pair_once(context, start_app, tmp_path):
    folder = workspace(tmp_path, pairs(4))
    app = start_app(folder)
    one, other = context.new_page(), context.new_page()
    for page in (one, other):
        page.goto(app.url)
        settle(page)
    assert task_of(one) == task_of(other)
    press(one, "1")
    wait_for_done(one, 1)
    press(other, "7")
    said(other, "from another tab")
    press(other, "6")
    wait_for_done(other, 2)
    votes, faults = votes_of(folder)
    assert ([vote.strength for vote in votes], faults) == ([3, 2], [])
    assert len({vote.task_id for vote in votes}) == 2
