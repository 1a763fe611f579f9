"""Fifty raters, two server processes that are killed every few seconds, requests sent twice, late
and with their answers lost: no vote lost, none doubled, no task served too often.

What the clients were told is the ledger that the store is held against.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from ports import free_port
from store_cases import pairs

from prefkit.annotation.session import meaning
from prefkit.store import VoteStore

SERVER = Path(__file__).with_name("rater_server.py")
RATERS = 50
K = 3
PATIENCE = 400  # seconds
COUNTED = {"a", "b", "tie", "both_bad", "invalid"}


@dataclass
class Servers:
    """Two processes on one store; one of them is killed and started again, on and on."""

    place: str
    home: Path
    n_kills: int = 0
    until: float = 0.0  # by time.monotonic(): when the raters go home
    ports: list[int] = field(default_factory=lambda: [free_port(), free_port()])
    running: dict[int, subprocess.Popen] = field(default_factory=dict)

    def start(self, port):
        words = [sys.executable, str(SERVER), str(self.place), str(self.home), str(port)]
        with open(self.home / f"server-{port}.log", "ab") as log:
            self.running[port] = subprocess.Popen(words, stdout=log, stderr=log)

    def kill(self, port):
        self.running[port].send_signal(signal.SIGKILL)
        self.running[port].wait(30)

    def is_open(self):
        return time.monotonic() < self.until

    async def trouble(self, http, n_kills, rng):
        while self.n_kills < n_kills and self.is_open():
            await asyncio.sleep(rng.uniform(1, 3))
            port = rng.choice(self.ports)
            await asyncio.to_thread(self.kill, port)
            self.n_kills += 1
            self.start(port)
            await up(http, port)
        self.until = time.monotonic() + 2


@dataclass
class Client:
    """A rater's page: keeps sending a vote until it is answered, as the page does."""

    rater: str
    servers: Servers
    http: httpx.AsyncClient
    rng: random.Random
    told: dict[str, dict] = field(default_factory=dict)  # vote id → what was answered
    undone: set[str] = field(default_factory=set)  # ids of undos that were answered
    later: list[asyncio.Task] = field(default_factory=list)

    async def once(self, method, path, body=None):
        """One request; None where no answer came."""
        url = f"http://127.0.0.1:{self.rng.choice(self.servers.ports)}/api/v1/{path}"
        try:
            reply = await self.http.request(
                method, url, json=body, headers={"x-rater": self.rater}, timeout=10
            )
        except httpx.HTTPError:
            return None
        assert reply.status_code in (200, 404, 409, 503), (path, reply.status_code, reply.text)
        return None if reply.status_code == 503 else reply

    async def ask(self, method, path, body=None):
        """Until it is answered; None when the time is over."""
        while self.servers.is_open():
            if body is not None and self.rng.random() < 0.2:
                self.later.append(asyncio.create_task(self.again(method, path, body)))
            reply = await self.once(method, path, body)
            if reply is not None and self.rng.random() > 0.1:  # else: the answer was lost
                return reply
            await asyncio.sleep(self.rng.uniform(0.02, 0.2))
        return None

    async def again(self, method, path, body):
        await asyncio.sleep(self.rng.uniform(0, 2))
        await self.once(method, path, body)

    async def label(self):
        while self.servers.is_open():
            reply = await self.ask("GET", "next")
            if reply is None or reply.json()["state"] == "done":
                break
            shown = reply.json()["pairs"]
            if not shown:
                await asyncio.sleep(0.3)
                continue
            await self.vote(shown[0])
            if self.rng.random() < 0.05:
                await self.undo()
        await asyncio.gather(*self.later)

    async def vote(self, shown):
        own = str(uuid.uuid4())
        body = {"id": own, "token": shown["token"], "key": self.rng.choice("12345677xs")}
        reply = await self.ask("POST", "votes", body)
        # 409: a late copy of an undo or of a request of ours changed what is to be shown.
        if reply is not None and reply.status_code == 200:
            self.told[own] = {**reply.json()["saved"], "task_id": shown["task_id"], **body}

    async def undo(self):
        own = str(uuid.uuid4())
        reply = await self.ask("POST", "undo", {"id": own})
        if reply is not None and reply.json()["undone"]:
            self.undone.add(own)


async def run(servers, n_kills, seed):
    rng = random.Random(seed)
    for port in servers.ports:
        servers.start(port)
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(limits=limits) as http:
        clients = [
            Client(f"rater-{n}", servers, http, random.Random(seed + n)) for n in range(RATERS)
        ]
        for port in servers.ports:
            await up(http, port)
        servers.until = time.monotonic() + PATIENCE
        await asyncio.gather(servers.trouble(http, n_kills, rng), *(c.label() for c in clients))
    for port in servers.ports:
        servers.kill(port)
    return clients


async def up(http, port):
    for _ in range(600):
        try:
            headers = {"x-rater": "rater-0"}
            await http.get(f"http://127.0.0.1:{port}/api/v1/progress", headers=headers)
            return
        except httpx.HTTPError:
            await asyncio.sleep(0.1)
    pytest.fail(f"the server on port {port} did not start")


def check(place, home, clients):
    """The store against what the clients were told; the number of votes."""
    with VoteStore.open(place, home=home) as store:
        stored = store.votes(hidden=True)
        by_id = {vote.id: vote for vote in stored}
        assert len(by_id) == len(stored)
        for client in clients:
            for own, told in client.told.items():
                vote = by_id[own]
                assert (vote.rater, vote.task_id) == (client.rater, told["task_id"])
                assert (vote.choice, vote.strength) == meaning(told["key"], vote.shown_first)
                assert vote.late == told["late"]
            assert all(by_id[own].choice == "withdrawn" for own in client.undone)
        stands = {}
        for vote in stored:
            key = (vote.task_id, vote.rater)
            assert vote.replaces == (stands[key].id if key in stands else None)
            if vote.choice == "withdrawn":
                del stands[key]
            else:
                assert key not in stands
                stands[key] = vote
        on_time = Counter(
            vote.comparison_id
            for vote in stands.values()
            if vote.choice in COUNTED and not vote.late and vote.task_id == vote.comparison_id
        )
        assert max(on_time.values()) <= K
        store.leases().reap()
        assert store.verify() == []
        return len(stored)


def chaos(place, tmp_path, n_kills, n_pairs):
    with VoteStore.open(place, home=tmp_path) as store:
        store.add(pairs(n_pairs), k=K)
    servers = Servers(str(place), tmp_path)
    try:
        clients = asyncio.run(run(servers, n_kills, seed=int(os.environ.get("CHAOS_SEED", "1"))))
    finally:
        for process in servers.running.values():
            process.kill()
    n_votes = check(place, tmp_path, clients)
    n_told = sum(len(client.told) for client in clients)
    assert n_told > RATERS
    assert servers.n_kills == n_kills
    facts = (n_votes, n_told, servers.n_kills)
    logging.getLogger(__name__).info("%d votes stored, %d acknowledged, %d kills", *facts)


@pytest.fixture
def place(request, tmp_path):
    if request.param == "sqlite":
        yield tmp_path / "votes.db"
        return
    from postgres_server import postgres_server

    with postgres_server(fsync=True) as server:
        yield server.replace("postgresql://", "postgresql+psycopg://")


BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.mark.parametrize("place", BOTH, indirect=True)
def test_nothing_is_lost_doubled_or_served_too_often(place, tmp_path):
    chaos(place, tmp_path, n_kills=3, n_pairs=400)


@pytest.mark.long
@pytest.mark.parametrize("place", BOTH, indirect=True)
def test_nothing_is_lost_doubled_or_served_too_often_in_minutes(place, tmp_path):
    chaos(place, tmp_path, n_kills=40, n_pairs=6000)
