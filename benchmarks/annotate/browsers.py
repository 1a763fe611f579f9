"""Real Chromium: milliseconds from a key press to the next pair painted. A process of its own.

    python -m benchmarks.annotate.browsers '{"url": …, "cookies": [[name, value], …], …}'

It says "ready" when every page shows a pair, waits for a line on stdin, presses a key on each page
at fixed times, and prints one JSON object. The clock is the page's: from the timestamp of the
keydown event to the second animation frame after the task in view has changed. With cut every
reply is cut to one pair as it arrives, so nothing is prefetched and each next pair is a miss.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

CHROMIUM = "/usr/bin/chromium"
ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
]  # fmt: skip
WATCH = """
(() => {
  const found = { paints: [], votes: [], refused: 0, waiting: 0 };
  window.bench = found;
  let pressed = null;
  const view = () => document.querySelector(".pk");
  document.addEventListener("keydown", (event) => {
    pressed = { at: event.timeStamp, task: view().dataset.task };
  }, true);
  const changed = () => {
    const task = view().dataset.task;
    if (!pressed || !task || task === pressed.task) return;
    const at = pressed.at;
    pressed = null;
    requestAnimationFrame(() => requestAnimationFrame(() => {
      found.paints.push(performance.now() - at);
    }));
  };
  const wait = () => {
    if (!view()) { setTimeout(wait, 20); return; }
    new MutationObserver(changed).observe(view(), {
      attributes: true, attributeFilter: ["data-task"],
    });
  };
  wait();
  const plain = window.fetch;
  window.fetch = async (...words) => {
    const path = String(words[0]);
    const isVote = path.endsWith("/votes") && words[1]?.method === "POST";
    found.waiting += isVote;
    let reply;
    try { reply = await plain(...words); } finally { found.waiting -= isVote; }
    if (isVote && reply.ok) found.votes.push(JSON.parse(words[1].body).id);
    if (isVote && !reply.ok) found.refused += 1;
    if (!CUT || !reply.ok || !(isVote || path.endsWith("/next"))) return reply;
    const body = await reply.json();
    body.pairs = (body.pairs || []).slice(0, 1);
    return new Response(JSON.stringify(body), {
      status: reply.status, headers: { "content-type": "application/json" },
    });
  };
})();
"""
# Every vote was answered; the page keeps those that were not sent yet in localStorage.
SENT = """
() => window.bench.waiting === 0
  && !Object.keys(localStorage).some((key) => key.startsWith("prefkit.out."))
"""
READY = '.pk[data-state="ready"]'


async def label(page: Any, n: int, every: float, first: float) -> int:
    """Press a key n times, each at its time; how often the page was not ready for it then."""
    rng = random.Random(n)
    late = 0
    for number in range(n):
        due = first + number * every
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if await page.get_attribute(".pk", "data-state") != "ready":
            late += 1
            await page.wait_for_selector(READY, timeout=30_000)
        await page.keyboard.press(rng.choice("1234567"))
    await page.wait_for_selector(READY, timeout=30_000)
    await asyncio.sleep(1)
    await page.wait_for_function(SENT, timeout=60_000)
    return late


async def run(words: dict[str, Any]) -> dict[str, Any]:
    """Open a page for each cookie, label, and give back what they saw."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        pages: list[Any] = []
        for name, value in words["cookies"]:
            context = await browser.new_context(viewport={"width": 1280, "height": 800})
            await context.add_cookies([{"name": name, "value": value, "url": words["url"]}])
            await context.add_init_script(WATCH.replace("CUT", json.dumps(words["cut"])))
            page = await context.new_page()
            await page.goto(words["url"])
            await page.wait_for_selector(READY, timeout=60_000)
            pages.append(page)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        start = time.perf_counter() + 0.5
        labelling = [
            label(page, words["n"], words["every"], start + words["every"] * i / len(pages))
            for i, page in enumerate(pages)
        ]
        late = await asyncio.gather(*labelling)
        found = [await page.evaluate("window.bench") for page in pages]
        await browser.close()
    return {
        "paints": [ms for one in found for ms in one["paints"]],
        "votes": [one["votes"] for one in found],
        "n_refused": sum(one["refused"] for one in found),
        "n_not_ready": sum(late),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(json.loads(sys.argv[1])))))
