"""Pictures for the documentation, taken from the real app in the real Chromium.

    python tools/screenshots.py            # writes docs/images/label*.png
    python tools/screenshots.py --out DIR

Each picture is at most 300 KB; one that is larger ends the run with an error.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = "/usr/bin/chromium"
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MOST_BYTES = 300_000
PAIRS = [
    {
        "prompt": "Why is the sky blue? Answer in three bullet points of at most 15 words each.",
        "a": "- Sunlight holds every colour, and air scatters short waves the most.\n"
        "- Blue is scattered about **five times** as strongly as red.\n"
        "- So blue light reaches your eye from all over the sky.",
        "b": "The sky looks blue because of a phenomenon known as *Rayleigh scattering*. When "
        "sunlight enters the atmosphere it meets molecules of nitrogen and oxygen, and these "
        "scatter light of short wavelengths far more than light of long ones.\n\n"
        "| colour | wavelength |\n|---|---|\n| blue | 450 nm |\n| red | 700 nm |\n\n"
        "Violet is scattered even more, but the sun sends less of it and our eyes hardly see it.",
    },
    {
        "prompt": "Write a Python function that reverses the order of the words in a sentence.",
        "a": "```python\ndef reverse_words(sentence: str) -> str:\n"
        '    return " ".join(reversed(sentence.split()))\n```\n\n'
        "`split()` without an argument also folds repeated spaces into one.",
        "b": "Here is how it can be done:\n\n1. Split the sentence at its spaces.\n"
        "2. Turn the list around.\n3. Join it again.\n\n"
        "```python\nwords = sentence.split(' ')\nwords.reverse()\nprint(' '.join(words))\n```",
    },
    {
        "prompt": "Suggest a name for a small bakery by the sea. One line, no explanation.",
        "a": "Salt & Crumb",
        "b": "How about \u201cThe Tidal Loaf\u201d? It brings the sea and the bread together, and "
        "it is easy to remember.",
    },
]


@contextmanager
def labelling_app(pairs: Path) -> Generator[str]:
    """The address of ``prefkit annotate`` on the file, as a process of its own."""
    command = [sys.executable, "-m", "prefkit", "annotate", pairs.name]
    process = subprocess.Popen(
        [*command, "--no-browser", "--port", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=pairs.parent,  # so that the commands on the page are short
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                yield found.group()
                return
        raise SystemExit("prefkit annotate did not start")
    finally:
        process.terminate()
        process.wait(timeout=20)


def settle(page: Any) -> None:
    """Wait until the page takes keys, or has nothing more to show."""
    page.wait_for_selector('.pk[data-state="ready"], .pk[data-state="done"]')
    page.wait_for_timeout(300)


def take(browser: Any, url: str, out: Path) -> list[Path]:
    """All pictures, in the order in which the pairs are worked through."""
    wide = browser.new_page(viewport={"width": 1280, "height": 760})
    wide.goto(url)
    settle(wide)
    # The table and the bullets make the fullest picture: skip on until they are in view.
    while "sky" not in wide.text_content('[data-slot="prompt"]'):
        wide.keyboard.press("s")
        settle(wide)
    taken = [_shoot(wide, out / "label.png")]
    wide.emulate_media(color_scheme="dark")
    wide.reload()
    settle(wide)
    taken.append(_shoot(wide, out / "label-dark.png"))
    phone = browser.new_page(viewport={"width": 390, "height": 844}, device_scale_factor=2)
    phone.goto(url)
    settle(phone)
    taken.append(_shoot(phone, out / "label-phone.png"))
    wide.emulate_media(color_scheme="light")
    wide.reload()
    settle(wide)
    wide.keyboard.press("g")
    wide.wait_for_timeout(300)
    taken.append(_shoot(wide, out / "label-guidelines.png"))
    wide.keyboard.press("g")
    while wide.get_attribute(".pk", "data-state") != "done":
        wide.keyboard.press("2")
        settle(wide)
    taken.append(_shoot(wide, out / "label-done.png"))
    return taken


def _shoot(page: Any, path: Path) -> Path:
    page.screenshot(path=path)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path}: {path.stat().st_size} bytes, more than {MOST_BYTES}")
    return path


def main() -> None:
    """Make a workspace of a few pairs, serve it, take the pictures."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        pairs = Path(folder) / "pairs.jsonl"
        pairs.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS), encoding="utf-8")
        with labelling_app(pairs) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
            for path in take(browser, url, out):
                sys.stdout.write(f"{path} ({path.stat().st_size} bytes)\n")
            browser.close()


if __name__ == "__main__":
    main()
