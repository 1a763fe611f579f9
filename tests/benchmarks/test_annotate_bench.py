"""The instruments of the load benchmark: the ledger finds faults, the clock charges stalls."""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import replace

import pytest
from store_cases import pairs, vote

from benchmarks.annotate import clients, disk, run, team
from benchmarks.annotate.clients import Rater, Told
from benchmarks.annotate.ledger import check
from prefkit.store import VoteStore


@pytest.fixture
def store(tmp_path):
    with VoteStore.open(tmp_path / "votes.db") as opened:
        yield opened


def cast(store, comparison, rater, vote_id, *, key="1"):
    """A vote in the store, as key 1 of a page with a on the left gives it; what a client notes."""
    given = replace(
        vote(comparison, rater=rater, choice="a"), id=vote_id, strength=3, shown_first="a"
    )
    stored = store.vote(given)
    saved = {"choice": stored.choice, "late": stored.late}
    return Told(rater, comparison.id, key, saved)


def test_a_sound_run_has_nothing_lost_doubled_or_over_served(store):
    (comparison,) = pairs(1)
    store.add([comparison], k=team.K)
    told = {f"v{n}": cast(store, comparison, f"r{n}", f"v{n}") for n in range(team.K)}
    found = check(store, told, {})
    assert (found.n_votes, found.lost, found.duplicate, found.over_served) == (3, 0, 0, 0)
    assert found.faults == []


def test_an_acknowledged_vote_that_is_not_there_is_lost(store):
    (comparison,) = pairs(1)
    store.add([comparison], k=team.K)
    told = {"v1": cast(store, comparison, "r1", "v1")}
    told["v2"] = replace(told["v1"], rater="r2")
    unanswered = Told("r3", comparison.id, "1", None)
    found = check(store, {**told, "v3": unanswered}, {"r4": ["v4"]})
    assert found.lost == 2  # v2 and the browser's v4; nobody was told that v3 is saved


def test_a_vote_that_stands_for_something_else_is_lost_too(store):
    (comparison,) = pairs(1)
    store.add([comparison], k=team.K)
    told = {"v1": cast(store, comparison, "r1", "v1", key="7")}
    assert check(store, told, {}).lost == 1


def test_votes_that_nobody_cast_and_second_ones_are_duplicates(store):
    (comparison,) = pairs(1)
    store.add([comparison], k=team.K)
    told = {"v1": cast(store, comparison, "r1", "v1"), "v2": cast(store, comparison, "r1", "v2")}
    assert check(store, told, {}).duplicate == 1
    cast(store, comparison, "r2", "unknown")
    assert check(store, told, {}).duplicate == 2


def test_a_task_that_more_than_k_were_told_to_be_in_time_for_is_over_served(store):
    (comparison,) = pairs(1)
    store.add([comparison], k=team.K)
    told = {f"v{n}": cast(store, comparison, f"r{n}", f"v{n}") for n in range(team.K + 1)}
    assert told["v3"].saved["late"]
    assert check(store, told, {}).over_served == 0
    told["v3"].saved["late"] = False
    assert check(store, told, {}).over_served == 1


def test_what_waits_behind_a_stall_is_charged_with_it():
    """A server that stops once for 0.6 s: of 10 votes due every 0.1 s six begin late."""
    stalls = iter([0.0, 0.0, 0.0, 0.6])

    async def serve(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            await reader.readexactly(length)
            await asyncio.sleep(next(stalls, 0.0))
            pair = {"token": str(time.monotonic_ns()), "task_id": "t"}
            body = json.dumps({"pairs": [pair], "saved": {"late": False, "choice": "a"}}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async def measure():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        rater = Rater(team.Person("r", "c"), team.Server(port, None), random.Random(1))
        await rater.begin()
        took = await clients.open_loop([rater], 1.0, every=0.1)
        rater.close()
        server.close()
        return took, len(rater.ledger)

    took, n = asyncio.run(measure())
    assert (len(took), n) == (10, 10)
    assert max(took) > 590
    # A closed loop would see one slow vote; here those behind it waited 0.5, 0.4, … seconds.
    assert sum(ms > 150 for ms in took) >= 4


def test_the_line_has_the_keys_of_the_issue_and_percentiles_are_by_nearest_rank():
    assert set(run.KEYS) == {
        "vote_p95_ms", "votes_per_s", "fsyncs_per_s", "paint_hit_p95_ms", "paint_miss_p95_ms",
        "lost", "duplicate", "over_served",
    }  # fmt: skip
    assert run.p95(list(range(1, 101))) == 95
    assert run.p95([7.0]) == 7


def test_a_comparison_is_of_6_kb_and_each_is_another():
    made = [team.comparison(number) for number in range(20)]
    assert len({c.id for c in made}) == 20
    sizes = [len(c.prompt.text) + len(c.a.text) + len(c.b.text) for c in made]
    assert all(5900 <= size <= 6100 for size in sizes)


def test_the_disk_is_asked_for_durability(tmp_path):
    assert disk.fsyncs_per_s(tmp_path, 0.05) > 0
    assert list(tmp_path.iterdir()) == []
