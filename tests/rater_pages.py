"""The rater's page in tests: a workspace to label, and how to wait for what the page does."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from app_cases import PASSWORD

from prefkit.annotation.passwords import hash_password
from prefkit.core.records import Comparison
from prefkit.store import VoteStore
from prefkit.store.accounts import Accounts

KEPT = "prefkit.out."


def workspace(
    tmp_path: Path, comparisons: list[Comparison], people: tuple[str, ...] = (), **settings: object
) -> Path:
    """A workspace that holds these comparisons. people: raters with ``PASSWORD``."""
    folder = tmp_path / "work.prefkit"
    folder.mkdir()
    # JSON is YAML.
    (folder / "prefkit.yaml").write_text(json.dumps({"annotate": {"k": 1, **settings}}))
    with VoteStore.open(folder / "votes.db") as store:
        store.add(comparisons)
        accounts = Accounts(store.database)
        for name in people:
            accounts.add(name, "rater", datetime.now(UTC), password=hash_password(PASSWORD))
    return folder


def settle(page) -> str:
    """Wait until the page takes keys or says that all is done; its state."""
    page.wait_for_selector('.pk[data-state="ready"], .pk[data-state="done"]', timeout=20_000)
    return page.get_attribute(".pk", "data-state")


def task_of(page) -> str:
    """The task in view, empty without one."""
    return page.get_attribute(".pk", "data-task")


def press(page, key: str) -> str:
    """Press a key that votes, and wait for what comes next."""
    before = task_of(page)
    page.keyboard.press(key)
    page.wait_for_function(
        "before => document.querySelector('.pk')?.dataset.task !== before", arg=before
    )
    return settle(page)


def done(page) -> int:
    """How many votes the server has confirmed."""
    return int(page.get_attribute(".pk", "data-done"))


def wait_for_done(page, n: int) -> None:
    """Wait until the server has confirmed n votes."""
    page.wait_for_function(
        "n => document.querySelector('.pk')?.dataset.done === String(n)", arg=n, timeout=30_000
    )


def unsent(page) -> list[dict]:
    """What waits in the outbox that is kept in the browser, in its order."""
    kept = page.evaluate(
        "prefix => Object.keys(localStorage).filter(k => k.startsWith(prefix)).sort()"
        ".map(k => localStorage.getItem(k))",
        KEPT,
    )
    return [json.loads(text) for text in kept]


def said(page, text: str) -> None:
    """Wait until the status line holds ``text``."""
    page.wait_for_function(
        "text => document.querySelector('.pk-status')?.textContent.includes(text)", arg=text
    )


def votes_of(folder: Path):
    """(votes in the order of the store, what verify finds)."""
    with VoteStore.open(folder / "votes.db") as store:
        return store.votes(), store.verify()
