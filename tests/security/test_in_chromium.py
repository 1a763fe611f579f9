"""Attacks as a browser would carry them out: scripts in every text, other sites, other machines."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from app_cases import PASSWORD
from store_cases import pair, pairs

from prefkit.annotation.passwords import hash_password
from prefkit.store import VoteStore
from prefkit.store.accounts import Accounts

pytestmark = pytest.mark.browser

RUN = "document.documentElement.dataset.pwned='1'"
# Each would run, load or send something in a page that puts text in unescaped.
SCRIPTS = [
    f"<script>{RUN}</script>",
    f"<img src=x onerror=\"{RUN}\">",
    f"<svg onload=\"{RUN}\"><animate onbegin=\"{RUN}\" attributeName=x></svg>",
    f"<iframe srcdoc=\"<script>parent.{RUN}</script>\"></iframe>",
    f"<math><mtext><table><mglyph><style><img src=x onerror=\"{RUN}\">",
    f"<math href=\"javascript:{RUN}\">CLICK</math>",
    f"[click](javascript:{RUN}) [click](data:text/html,<script>{RUN}</script>)",
    f"[x]: javascript:{RUN}\n[click][x] <javascript:{RUN}>",
    "![beacon](http://evil.example/pixel.png) <http://evil.example>",
    f"`</code><img src=x onerror=\"{RUN}\">`\n\n```\n</pre><script>{RUN}</script>\n```",
    f"| a |\n|---|\n| <img src=x onerror=\"{RUN}\"> |",
    "<style>@import 'http://evil.example/x.css'; body{display:none}</style>",
    "<link rel=stylesheet href=http://evil.example/x.css><base href=http://evil.example/>",
    "<meta http-equiv=refresh content='0;url=http://evil.example/'>",
    f"<form action=http://evil.example/><button autofocus onfocus=\"{RUN}\">x</button></form>",
    "<details open ontoggle=\"" + RUN + "\"><a href='//evil.example' ping='http://evil.example'>",
    "${" + RUN + "} {{constructor.constructor(\"" + RUN + "\")()}} {% raw %}",
    f"</textarea></title></noscript><img src=x onerror=\"{RUN}\">",
    f"<noscript><p title=\"</noscript><img src=x onerror={RUN}>\">",
    "\u202e\u2066<img src=x onerror=\"" + RUN + "\">\u2069",
]  # fmt: skip
EVIL = "\n\n".join(SCRIPTS)
UNSAFE = ".pk-text :is(img, script, style, iframe, svg, math, form, link, base, meta)"
NAME = f'<img src=x onerror="{RUN}">'[:64]


def workspace(tmp_path, comparisons, people=(), settings=""):
    folder = tmp_path / "work.prefkit"
    folder.mkdir()
    (folder / "prefkit.yaml").write_text(f"annotate:\n  k: 1\n  repeat_rate: 0\n{settings}")
    with VoteStore.open(folder / "votes.db") as store:
        store.add(comparisons)
        accounts = Accounts(store.database)
        for name, role in people:
            accounts.add(name, role, datetime.now(UTC), password=hash_password(PASSWORD))
    return folder


@pytest.fixture
def page(chromium):
    """A page of a browser of its own; asked: every address that it asked for."""
    context = chromium.new_context()
    opened = context.new_page()
    opened.asked = []
    context.on("request", lambda request: opened.asked.append(request.url))
    yield opened
    context.close()


def log_in(page, served, name):
    page.goto(f"{served.url}login")
    page.fill("#name", name)
    page.fill("#password", PASSWORD)
    page.click("button")
    page.wait_for_selector('.pk[data-state="ready"], .pk[data-state="done"]', timeout=20_000)


def nothing_ran(page, url):
    assert page.evaluate("document.documentElement.dataset.pwned") is None
    away = [one for one in page.asked if not one.startswith((url, "data:", "blob:"))]
    assert away == []


def elsewhere(reached):
    """Every line of the watch that names another machine than this one."""
    return [line for line in reached if "('127.0.0.1', " not in line]


def test_the_watch_sees_a_connection_to_another_machine(serve, tmp_path):
    served = serve(workspace(tmp_path, pairs(1)))
    probe = "import socket; socket.socket().connect_ex(('192.0.2.1', 9))"
    here = {"PYTHONPATH": str(tmp_path / "watch"), "PREFKIT_TEST_WATCH": str(served.log)}
    with suppress(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", probe], env=here, timeout=5)
    assert elsewhere(served.reached) == ["socket.connect ('192.0.2.1', 9)"]


def test_scripts_in_prompts_answers_and_names_do_nothing(chromium, page, serve, tmp_path):
    guidelines = "  guidelines: |\n" + "".join(f"    {line}\n" for line in EVIL.split("\n"))
    texts = [pair(EVIL, f"{EVIL} one", f"{EVIL} two")]
    texts += [
        pair(f"{script} {n}", f"1 {script}", f"2 {script}") for n, script in enumerate(SCRIPTS)
    ]
    folder = workspace(tmp_path, texts, [(NAME, "lead")], guidelines)
    served = serve(folder)
    log_in(page, served, NAME)
    page.keyboard.press("g")
    page.wait_for_selector("dialog[open]")
    assert "onerror" in page.text_content('[data-slot="guidelines"]')
    page.keyboard.press("g")
    for _ in texts:
        for link in page.locator(".pk-text a").all():
            assert link.get_attribute("href").startswith(("http://", "https://", "mailto:"))
        assert (
            page.locator(".pk-text :is(img, script, style, iframe, svg, math, form)").count() == 0
        )
        nothing_ran(page, served.url)
        before = page.get_attribute(".pk", "data-task")
        page.keyboard.press("1")
        page.wait_for_function(
            "before => document.querySelector('.pk').dataset.task !== before", arg=before
        )
        page.wait_for_selector('.pk[data-state="ready"], .pk[data-state="done"]')
    assert page.get_attribute(".pk", "data-state") == "done"
    page.goto(f"{served.url}login")
    assert NAME in page.inner_text("h1")
    page.goto(f"{served.url}login?next=%22%3E%3Cscript%3E{RUN}%3C/script%3E#{SCRIPTS[1]}")
    nothing_ran(page, served.url)
    assert elsewhere(served.reached) == []


def test_an_answer_of_the_api_opened_as_a_page_runs_nothing(page, serve, tmp_path):
    folder = workspace(tmp_path, [pair(EVIL, f"{EVIL} one", f"{EVIL} two")], [("kim", "lead")])
    served = serve(folder)
    log_in(page, served, "kim")
    for path in ("next", "comparisons", "votes", "preferences", "openapi.json", "guidelines",
                 f"nothing/{SCRIPTS[0]}", f"preferences?method={SCRIPTS[1]}"):  # fmt: skip
        page.goto(f"{served.url}api/v1/{path}")
        nothing_ran(page, served.url)


@contextmanager
def other_site(pages):
    """A site on another port of this machine: another origin, and the same site as ours."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self):
            body = pages.get(self.path, "").encode()
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_another_site_in_the_same_browser_votes_and_logs_out_nobody(page, serve, tmp_path):
    folder = workspace(tmp_path, pairs(2), [("kim", "lead")])
    served = serve(folder)
    log_in(page, served, "kim")
    task = page.get_attribute(".pk", "data-task")
    body = '{"id":"00000000-0000-4000-8000-000000000001","task_id":"' + task + '","key":"1","x":"'
    forms = {
        "/form": f"<form method=post action='{served.url}api/v1/votes' enctype='text/plain'>"
        f"<input name='{body}' value='\"}}'></form><script>document.forms[0].submit()</script>",
        "/out": f"<form method=post action='{served.url}logout'></form>"
        "<script>document.forms[0].submit()</script>",
        "/in": f"<form method=post action='{served.url}login'><input name=name value=kim>"
        f"<input name=password value='{PASSWORD}'></form>"
        "<script>document.forms[0].submit()</script>",
        "/fetch": "<script>fetch('" + served.url + "api/v1/votes', {method: 'POST', "
        "credentials: 'include', headers: {'x-prefkit': '1', 'content-type': "
        "'application/json'}, body: " + repr(body + '"}') + "}).then("
        "r => document.title = 'read ' + r.status, () => document.title = 'refused')</script>",
        "/read": "<script>fetch('" + served.url + "api/v1/next', {credentials: 'include'}).then("
        "r => document.title = 'read ' + r.status, () => document.title = 'refused')</script>",
        "/frame": f"<iframe src='{served.url}'></iframe>",
    }
    with other_site(forms) as evil:
        for path in ("/form", "/out", "/in"):
            with page.expect_response(lambda r: r.request.method == "POST") as answer:
                page.goto(f"{evil}{path}")
            assert answer.value.status == 403, path
        for path in ("/fetch", "/read"):
            page.goto(f"{evil}{path}")
            page.wait_for_function("document.title !== ''")
            assert page.title() == "refused", path
        page.goto(f"{evil}/frame")
        page.wait_for_timeout(500)
        assert all(frame.locator(".pk").count() == 0 for frame in page.frames)
    page.goto(served.url)
    page.wait_for_selector('.pk[data-state="ready"]', timeout=20_000)
    assert page.get_attribute(".pk", "data-done") == "0"
    with VoteStore.open(folder / "votes.db") as store:
        assert store.votes() == []


def test_no_script_can_read_the_session(page, serve, tmp_path):
    served = serve(workspace(tmp_path, pairs(1), [("kim", "rater")]))
    log_in(page, served, "kim")
    assert page.evaluate("document.cookie") == ""
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    for path in ("gradio_api/token", "token", "gradio_api/user"):
        answer = page.request.get(f"{served.url}{path}")
        assert answer.status == 404
        assert cookie["value"] not in answer.text()


def test_a_session_outlives_kill_9_and_labelling_leaves_the_machine_alone(page, serve, tmp_path):
    folder = workspace(tmp_path, pairs(3), [("kim", "lead")])
    served = serve(folder)
    log_in(page, served, "kim")
    (cookie,) = page.context.cookies()
    page.keyboard.press("1")
    page.wait_for_function("document.querySelector('.pk').dataset.done === '1'")
    served.process.kill()
    served.process.wait()
    port = re.search(r":(\d+)/", served.url)[1]
    again = serve(folder, "--port", port)
    assert again.url == served.url
    page.goto(again.url)
    page.wait_for_selector('.pk[data-state="ready"]', timeout=20_000)
    assert page.get_attribute(".pk", "data-done") == "1"
    assert page.context.cookies() == [cookie]
    nothing_ran(page, again.url)
    assert again.reached != []
    assert elsewhere(again.reached) == []


def test_a_vote_that_met_the_end_of_the_session_is_sent_after_the_log_in_by_its_own_rater(
    page, serve, tmp_path
):
    folder = workspace(tmp_path, pairs(3), [("kim", "rater"), ("rae", "rater")])
    served = serve(folder)
    log_in(page, served, "kim")
    task = page.get_attribute(".pk", "data-task")
    (cookie,) = page.context.cookies()
    with VoteStore.open(folder / "votes.db") as store:
        Accounts(store.database).end_session(cookie["value"].split(".")[0])
    page.keyboard.press("1")
    page.wait_for_url(f"{served.url}login")
    # Somebody else at the same browser neither sends it nor loses it.
    log_in(page, served, "rae")
    assert page.get_attribute(".pk", "data-done") == "0"
    page.click('[data-act="log-out"]')
    page.wait_for_url(f"{served.url}login")
    assert page.context.cookies() == []
    log_in(page, served, "kim")
    assert page.get_attribute(".pk", "data-done") == "1"
    page.reload()
    page.wait_for_selector('.pk[data-state="ready"]', timeout=20_000)
    with VoteStore.open(folder / "votes.db") as store:
        (vote,) = store.votes()
        kim = Accounts(store.database).by_name("kim")
        assert (vote.task_id, vote.rater, vote.strength) == (task, kim.id, 3)
        assert store.verify() == []
    kept = page.evaluate("Object.keys(localStorage).filter(k => k.startsWith('prefkit.out.'))")
    assert kept == []


def test_a_page_left_open_does_nothing_in_the_name_of_who_logged_in_beside_it(
    page, serve, tmp_path
):
    folder = workspace(tmp_path, pairs(6), [("kim", "rater"), ("rae", "rater")])
    served = serve(folder)
    log_in(page, served, "kim")
    task = page.get_attribute(".pk", "data-task")
    beside = page.context.new_page()
    beside.goto(f"{served.url}login")
    beside.click("button")
    log_in(beside, served, "rae")
    beside.keyboard.press("4")
    beside.wait_for_function("document.querySelector('.pk').dataset.done === '1'")
    page.keyboard.press("7")
    page.wait_for_url(f"{served.url}login")
    beside.reload()
    beside.wait_for_selector('.pk[data-state="ready"]', timeout=20_000)
    with VoteStore.open(folder / "votes.db") as store:
        assert [(vote.choice, vote.strength) for vote in store.votes()] == [("tie", 0)]
    # What kim said waits for kim.
    beside.click('[data-act="log-out"]')
    beside.wait_for_url(f"{served.url}login")
    log_in(beside, served, "kim")
    beside.wait_for_function("document.querySelector('.pk').dataset.done === '1'")
    with VoteStore.open(folder / "votes.db") as store:
        kim = Accounts(store.database).by_name("kim")
        last = store.votes()[-1]
        assert (last.rater, last.task_id, last.strength) == (kim.id, task, 3)


def test_a_session_that_ended_before_the_page_is_opened_again_leads_to_the_log_in(
    page, serve, tmp_path
):
    folder = workspace(tmp_path, pairs(2), [("kim", "rater")])
    served = serve(folder)
    log_in(page, served, "kim")
    page.context.clear_cookies()
    page.keyboard.press("u")
    page.wait_for_url(f"{served.url}login")
    page.goto(served.url)
    assert page.url == f"{served.url}login"
