"""Raters without a browser: HTTP/1.1 on one kept connection each, and a ledger of what they did.

In the open loop a vote is due at a fixed time whether the one before it was answered or not, and
its latency is counted from then: a server that stalls is charged with all the votes that waited
(no coordinated omission).
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import orjson

from benchmarks.annotate.team import Person, Server

_PATIENCE = 30.0  # seconds until a request is given up and sent again
_PAUSE = 0.05


@dataclass
class Told:
    """A vote that was sent. saved: what was answered, None while nothing was."""

    rater: str
    task_id: str
    key: str
    saved: dict[str, Any] | None = None


@dataclass
class Rater:
    """One person: what they hold, and what they were told. ledger: vote id → Told."""

    person: Person
    server: Server
    rng: random.Random
    ledger: dict[str, Told] = field(default_factory=dict[str, Told])
    n_refused: int = 0
    n_again: int = 0
    _pairs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    _reader: asyncio.StreamReader | None = None
    _writer: asyncio.StreamWriter | None = None

    async def begin(self) -> None:
        """Take the first pairs."""
        while not self._pairs:
            status, value = await self._ask("GET", "/api/v1/next")
            assert status == 200, (status, value)
            self._take(value)
            if not self._pairs:
                await asyncio.sleep(_PAUSE)

    async def vote(self) -> None:
        """Vote on what is shown and wait for the next pair."""
        if not self._pairs:
            await self.begin()
        shown = self._pairs.pop(0)
        own, key = str(uuid.uuid4()), self.rng.choice("1234567xs")
        self.ledger[own] = told = Told(self.person.id, shown["task_id"], key)
        have = [pair["token"] for pair in self._pairs]
        body = {"id": own, "token": shown["token"], "key": key, "active_ms": 1000, "have": have}
        status, value = await self._ask("POST", "/api/v1/votes", body)
        if status == 200:
            told.saved = value["saved"]
        else:
            self.n_refused += 1
            self._pairs.clear()
        self._take(value)

    def _take(self, value: dict[str, Any]) -> None:
        held = {pair["token"] for pair in self._pairs}
        self._pairs += [pair for pair in value.get("pairs", ()) if pair["token"] not in held]

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """As the page does: again and again until there is an answer."""
        data = b"" if body is None else orjson.dumps(body)
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.server.port}\r\n"
            f"Cookie: {self.server.header(self.person)}\r\nx-prefkit: 1\r\n"
        )
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        while True:
            try:
                async with asyncio.timeout(_PATIENCE):
                    status, value = await self._exchange(f"{head}\r\n".encode() + data)
                if status < 500:
                    return status, value
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                self._writer = None
            self.n_again += 1
            await asyncio.sleep(_PAUSE)

    async def _exchange(self, request: bytes) -> tuple[int, dict[str, Any]]:
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_connection(
                "127.0.0.1", self.server.port, limit=1 << 20
            )
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length:")[2].partition("\r\n")[0])
        value = orjson.loads(await self._reader.readexactly(length))
        return int(head[9:12]), value

    def close(self) -> None:
        """Give the connection back."""
        if self._writer is not None:
            self._writer.close()


async def warm(raters: list[Rater], n: int = 3) -> None:
    """Take the first pairs, and vote a few times before anything is measured."""

    async def one(rater: Rater) -> None:
        await rater.begin()
        for _ in range(n):
            await rater.vote()

    await asyncio.gather(*(one(rater) for rater in raters))


async def open_loop(raters: list[Rater], seconds: float, every: float = 1.0) -> list[float]:
    """Milliseconds from when each vote was due until its answer with the next pair was read."""
    start = time.perf_counter() + 0.5
    took: list[float] = []

    async def one(rater: Rater, first: float) -> None:
        for n in range(int(seconds / every)):
            due = first + n * every
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await rater.vote()
            took.append(1000 * (time.perf_counter() - due))

    # Their arrivals lie evenly in each second.
    firsts = [start + every * number / len(raters) for number in range(len(raters))]
    await asyncio.gather(*map(one, raters, firsts))
    return took


async def saturate(raters: list[Rater], seconds: float) -> float:
    """Votes a second while every rater votes as soon as the last one was answered."""
    ends = time.perf_counter() + seconds
    n = 0

    async def one(rater: Rater) -> None:
        nonlocal n
        while time.perf_counter() < ends:
            await rater.vote()
            n += time.perf_counter() <= ends

    start = time.perf_counter()
    await asyncio.gather(*map(one, raters))
    return n / (min(time.perf_counter(), ends) - start)
