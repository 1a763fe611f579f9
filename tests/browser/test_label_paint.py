"""The next pair is there at once, from what the page holds; make bench-annotate says how fast."""

from __future__ import annotations

import pytest
from rater_pages import press, settle, wait_for_done, workspace
from store_cases import pair

pytestmark = [pytest.mark.browser, pytest.mark.slow]
N_VOTES = 40
SIZES = {"0.5k": 500, "8k": 8000}  # tokens of a pair, about four characters each
# Every reply comes after the prefetched pair was voted on too.
SLOW_REPLIES = """
const fetchNow = window.fetch;
window.fetch = async (...asked) => {
  if (String(asked[0]).endsWith("/votes")) await new Promise((done) => setTimeout(done, 600));
  return fetchNow(...asked);
};
"""
LINE = "- The *quick* brown `fox` jumps over 13 lazy dogs; see **chapter 4** for $x^2$.\n"


def text(n_tokens: int, n: int, side: str) -> str:
    wanted = 4 * n_tokens // 2
    lines = LINE * (wanted // len(LINE) + 1)
    return f"# {side} {n}\n\n{lines[:wanted]}"


def paints(page):
    """(ms from the key to the painted pair, whether it had to be fetched) of every vote."""
    found = page.evaluate(
        "performance.getEntriesByName('prefkit-paint').map(e => [e.duration, e.detail.waited])"
    )
    return [ms for ms, waited in found if not waited], [ms for ms, waited in found if waited]


def p95(values):
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]


@pytest.mark.parametrize("size", list(SIZES))
def test_pairs_are_there_before_they_are_asked_for(chromium, start_app, tmp_path, size):
    texts = [
        pair(f"question {n}", text(SIZES[size], n, "one"), text(SIZES[size], n, "two"))
        for n in range(N_VOTES + 3)
    ]
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    page.goto(start_app(workspace(tmp_path, texts, repeat_rate=0)).url)
    settle(page)
    for n in range(N_VOTES):
        press(page, "1")
        wait_for_done(page, n + 1)  # with this reply comes the pair after the next
    hits, misses = paints(page)
    assert (len(hits), misses) == (N_VOTES, [])
    page.close()


def test_a_pair_that_has_to_be_fetched_is_told_apart(chromium, start_app, tmp_path):
    texts = [pair(f"question {n}", text(2000, n, "one"), text(2000, n, "two")) for n in range(24)]
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    page.add_init_script(SLOW_REPLIES)
    page.goto(start_app(workspace(tmp_path, texts, repeat_rate=0)).url)
    settle(page)
    for _ in range(12):
        press(page, "7")
    hits, misses = paints(page)
    assert len(misses) >= 3
    assert min(misses) > p95(hits)
    page.close()
