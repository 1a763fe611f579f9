"""Scripts in every field that people and models fill do nothing, and nothing leaves the machine."""

from __future__ import annotations

import json

import pytest
from rater_pages import press, said, settle, wait_for_done, workspace
from store_cases import pair

from prefkit.core.records import Comparison, Completion, Message, Part, Prompt

pytestmark = pytest.mark.browser
RUN = "document.documentElement.dataset.pwned='1'"
IMG = f'<img src=x onerror="{RUN}">'
EVIL = "\n\n".join(
    [
        IMG,
        f"<script>{RUN}</script>",
        f"$\\text{{{IMG}}}$",
        f"$\\text{{</math>{IMG}}}$",
        f"\\(\\href{{javascript:{RUN}}}{{click}}\\)",
        f"\\[\\text{{&lt;img src=x onerror={RUN}&gt;}}\\]",
        f"$$\\mbox{{<style><img src=x onerror={RUN}></style>}}$$",
        "\\begin{align}\\text{<annotation-xml encoding='text/html'><iframe "
        f"srcdoc='<script>parent.{RUN}</script>'>}}\\end{{align}}",
        f'<figure data-media="0" data-kind="image">{IMG}</figure>',
        "![x](http://evil.example/pixel.png)",
        f"[click](javascript:{RUN})",
        "${" + RUN + "} {{constructor.constructor(\"" + RUN + "\")()}}",
    ]
)  # fmt: skip
PICTURE = Part("image", path=f'"><{IMG}.png')


@pytest.fixture
def page(chromium):
    context = chromium.new_context()
    opened = context.new_page()
    opened.asked, opened.failed = [], []
    context.on("request", lambda request: opened.asked.append(request.url))
    opened.on("pageerror", lambda error: opened.failed.append(str(error)))
    opened.on("dialog", lambda dialog: opened.failed.append(dialog.message))
    yield opened
    context.close()


def assert_nothing_ran(page, url):
    assert page.evaluate("document.documentElement.dataset.pwned") is None
    assert [one for one in page.asked if not one.startswith((url, "data:", "blob:"))] == []
    assert page.failed == []
    unsafe = ".pk-text :is(script, style, iframe, svg, annotation-xml, link, form, [onerror])"
    assert page.locator(unsafe).count() == 0


def test_nothing_runs_whatever_is_in_prompts_answers_and_what_raters_write(
    page, start_app, tmp_path
):
    prompt = Prompt.make([Message("user", (Part("text", EVIL), PICTURE))])
    answers = [
        Completion.make(prompt.id, [Message(f"assistant{IMG}", (Part("text", text), PICTURE)),
                                    Message.of("tool", text)], "m")
        for text in (f"{EVIL} 1", f"{EVIL} 2")
    ]  # fmt: skip
    texts = [Comparison.make(prompt, *answers), pair(EVIL, f"{EVIL} 3", f"{EVIL} 4"), pair("q")]
    folder = workspace(
        tmp_path, texts, guidelines=EVIL, aspects=[IMG, "constructor"], rationale_at=0
    )
    app = start_app(folder, rater=IMG)
    page.goto(app.url)
    settle(page)
    for key in ("d", "m", "m", "p"):
        page.keyboard.press(key)
        assert_nothing_ran(page, app.url)
    for key in ("g", "?"):
        page.keyboard.press(key)
        page.wait_for_selector("dialog[open]")
        page.wait_for_timeout(200)
        assert_nothing_ran(page, app.url)
        page.keyboard.press("Escape")
    page.keyboard.press("a")
    page.keyboard.press("1")
    page.keyboard.press("1")
    page.keyboard.press("f")
    page.fill("#pk-note", EVIL[:4000])
    page.keyboard.press("Tab")
    page.keyboard.press("r")
    page.fill("#pk-reason", EVIL[:4000])
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    page.fill("#pk-edit", EVIL)
    page.keyboard.press("Control+Enter")
    press(page, "1")
    wait_for_done(page, 1)
    page.keyboard.press("u")
    wait_for_done(page, 0)
    settle(page)
    assert_nothing_ran(page, app.url)
    assert page.input_value("#pk-reason") == EVIL[:4000]
    press(page, "2")
    wait_for_done(page, 1)
    page.keyboard.press("h")
    page.wait_for_selector('[data-slot="history"] button')
    page.locator('[data-slot="history"] button').first.click()
    said(page, "You said")
    settle(page)
    assert_nothing_ran(page, app.url)


def test_what_the_browser_keeps_is_text_too(page, start_app, tmp_path):
    app = start_app(workspace(tmp_path, [pair("one"), pair("two")]))
    page.goto(app.url)
    settle(page)
    me = page.evaluate("fetch('/api/v1/me').then(r => r.json())")
    task = page.get_attribute(".pk", "data-task")
    draft = {"task": task, "aspects": {}, "confidence": None, "rationale": IMG,
             "edit": {"side": "left", "text": IMG}, "flagged": True, "note": IMG}  # fmt: skip
    page.evaluate(
        "([key, text]) => localStorage.setItem(key, text)",
        [f"prefkit.draft.{me['id']}", json.dumps(draft)],
    )
    page.reload()
    settle(page)
    assert page.input_value("#pk-reason") == IMG
    page.keyboard.press("e")
    assert page.input_value("#pk-edit") == IMG
    assert_nothing_ran(page, app.url)
