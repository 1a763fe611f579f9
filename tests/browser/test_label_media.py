"""Images and audio of this machine are drawn and played; a file that is not there says so."""

from __future__ import annotations

import pytest
from media_files import png, wav
from rater_pages import press, settle, workspace
from store_cases import pair

from prefkit.core.records import Comparison, Completion, Message, Part, Prompt

pytestmark = pytest.mark.browser


def test_pictures_and_sounds_are_shown_where_they_belong(chromium, start_app, tmp_path):
    prompt = Prompt.make(
        [Message("user", (Part("text", "What is this?"), Part("image", path="cat.png")))]
    )
    answers = [
        Completion.make(prompt.id, [Message("assistant", (Part("text", name), part))], "m")
        for name, part in (
            ("spoken", Part("audio", path="meow.wav")),
            ("missing", Part("image", path="gone.png")),
        )
    ]
    folder = workspace(tmp_path, [Comparison.make(prompt, *answers), pair("a"), pair("b")])
    (folder / "media").mkdir()
    (folder / "media" / "cat.png").write_bytes(png(40, 30))
    (folder / "media" / "meow.wav").write_bytes(wav(0.5))
    page = chromium.new_page()
    page.goto(start_app(folder).url)
    settle(page)
    while "What is this?" not in page.text_content('[data-slot="prompt"]'):
        press(page, "s")
    page.wait_for_function("document.querySelector('[data-slot=prompt] img')?.naturalWidth === 40")
    picture = page.locator('[data-slot="prompt"] img')
    assert picture.get_attribute("alt") == "[image: cat.png]"
    page.wait_for_function("document.querySelector('.pk-answers audio')?.duration === 0.5")
    spoken = page.locator(".pk-answer", has=page.locator("audio"))
    assert "spoken" in spoken.inner_text()
    page.get_by_text("[image: gone.png] (this file cannot be shown)").wait_for()
    assert page.locator(".pk-answers img").count() == 0
    page.close()
