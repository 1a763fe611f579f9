"""What is measured: a workspace of many comparisons, fifty people, the app in two processes."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prefkit.annotation.auth import KEY_NAME, KEY_VARIABLE, Sessions
from prefkit.annotation.passwords import hash_password
from prefkit.core.records import Comparison, Completion, Message, Prompt
from prefkit.store import VoteStore
from prefkit.store.accounts import Accounts
from prefkit.store.heads import find_or_make_key
from prefkit.store.tokens import Tokens

N_RATERS = 50
K = 3
_BATCH = 2000
_START_SECONDS = 300
_TEXT = """
answer because between careful clear compare different evidence example explain follow general
however instead language measure model never number often person prefer question reason short simple
system therefore through together under usually value whether without
"""
_WORDS = _TEXT.split()


@dataclass(frozen=True)
class Person:
    """A rater with a session. cookie: its value; its name follows from the port."""

    id: str
    cookie: str


@dataclass(frozen=True)
class Server:
    """One process of the app."""

    port: int
    process: subprocess.Popen[str]

    def header(self, person: Person) -> str:
        """The Cookie header of a request to this process."""
        return f"prefkit-{self.port}={person.cookie}"


def answer(rng: random.Random, size: int) -> str:
    """Markdown of about ``size`` characters, as models write it."""
    parts = [f"## {rng.choice(_WORDS).title()} {rng.randrange(10**6)}"]
    while sum(map(len, parts)) < size:
        sentence = " ".join(rng.choices(_WORDS, k=rng.randint(8, 20))).capitalize()
        kind = rng.random()
        if kind < 0.15:
            parts.append("\n".join(f"- **{rng.choice(_WORDS)}**: {sentence}" for _ in range(4)))
        elif kind < 0.25:
            parts.append(f"```python\nprint({sentence!r})\n```")
        else:
            parts.append(" ".join(f"{sentence}." for _ in range(3)))
    return "\n\n".join(parts)[:size]


def comparison(number: int) -> Comparison:
    """One of many, of 6 kB: every text is another, so no cache can help."""
    rng = random.Random(number)
    asked = Prompt.make([Message.of("user", answer(rng, 600))])
    sides = [
        Completion.make(asked.id, [Message.of("assistant", answer(rng, 2700))], model)
        for model in ("one", "other")
    ]
    return Comparison.make(asked, *sides, origin="bench")


def make_workspace(folder: Path, address: str | None, n: int) -> list[Person]:
    """A workspace with n comparisons and N_RATERS people who are logged in."""
    folder.mkdir(parents=True)
    settings = {"annotate": {"k": K, **({"store": address} if address else {})}}
    (folder / "prefkit.yaml").write_text(json.dumps(settings))  # JSON is YAML
    with VoteStore.open(address or folder / "votes.db", home=folder) as store:
        for start in range(0, n, _BATCH):
            numbers = range(start, min(start + _BATCH, n))
            store.add([comparison(number) for number in numbers], k=K)
        return _people(store, folder)


def _people(store: VoteStore, folder: Path) -> list[Person]:
    key = find_or_make_key(folder, KEY_NAME, KEY_VARIABLE)
    assert key is not None
    accounts = Accounts(store.database)
    sessions = Sessions(accounts, Tokens(store.database), key, hours=1, cookie="any", secure=False)
    password = hash_password("correct horse battery")
    now = datetime.now(UTC)
    ends = now + timedelta(hours=12)
    expires = str(int(ends.timestamp()))
    found: list[Person] = []
    for number in range(N_RATERS):
        account = accounts.add(f"rater {number}", "rater", now, password=password)
        session = accounts.open_session(account.id, now, ends)
        signature = sessions.digest("session", session, expires)
        found.append(Person(account.id, f"{session}.{expires}.{signature}"))
    return found


@contextmanager
def serving(folder: Path, n: int = 2) -> Generator[list[Server]]:
    """``prefkit annotate`` in n processes on one workspace, as a team would run it."""
    servers: list[Server] = []
    try:
        for _ in range(n):
            servers.append(_start(folder))
        yield servers
    finally:
        for server in servers:
            server.process.send_signal(signal.SIGTERM)
        for server in servers:
            try:
                server.process.wait(60)
            except subprocess.TimeoutExpired:
                server.process.kill()


def _start(folder: Path) -> Server:
    words = [sys.executable, "-m", "prefkit", "annotate", str(folder), "--no-browser"]
    process = subprocess.Popen(
        [*words, "--port", "0"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    late = threading.Timer(_START_SECONDS, process.kill)
    late.start()
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        _, found, rest = line.partition("http://127.0.0.1:")
        if found:
            late.cancel()
            # What it says later must not fill the pipe.
            threading.Thread(target=_drain, args=(process.stderr,), daemon=True).start()
            return Server(int(rest.partition("/")[0]), process)
    late.cancel()
    raise SystemExit(f"prefkit annotate did not start: {''.join(said)}")


def _drain(pipe: object) -> None:
    for line in pipe:  # type: ignore[attr-defined]
        if "stop with Ctrl-C" not in line and "votes in" not in line:
            sys.stderr.write(f"server: {line}")
