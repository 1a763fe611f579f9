"""How long the next lease takes with 100,000 open comparisons, on SQLite and PostgreSQL.

    python benchmarks/leases.py [--comparisons 100000] [--store PATH_OR_URL]

Three raters: one who is new, one with 20 % of the comparisons behind them, one with 90 %, voted
on without leases, so that each first has to walk from the start to one that is open (``walk``).
``lease`` is the time inside the transaction for the lease alone; ``cast`` is vote + next as its
caller sees it, commit and fsync in it, one caller at a time. Milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from prefkit.core.records import Comparison, Completion, Message, Prompt, Vote
from prefkit.store import VoteStore, leasing
from prefkit.store.leases import Ballot, Leases
from prefkit.store.leasing import LeasePlan
from prefkit.store.shown import Seen

TEXT = "A sentence of an answer that somebody has to read. " * 20
PLAN = LeasePlan(2, timedelta(minutes=10), lambda row: (1,), lambda row: "a", lambda row: False)
N_CASTS = 300


def comparison(number: int) -> Comparison:
    """One of many, with answers of about 1 kB."""
    asked = Prompt.make([Message.of("user", f"question {number}")])
    answers = [
        Completion.make(asked.id, [Message.of("assistant", TEXT + side)], side) for side in "ab"
    ]
    return Comparison.make(asked, *answers, origin="benchmark")


def vote(rater: str, task_id: str, vote_id: str | None = None) -> Vote:
    """A person's vote for a."""
    own = vote_id or str(uuid.uuid4())
    return Vote(own, task_id, task_id, rater, "human", "a", datetime.now(UTC), shown_first="a")


def vote_on_share(store: VoteStore, rater: str, share: float) -> None:
    """Vote on the first of the tasks in their order, without leases."""
    tasks = sorted(store.tasks(), key=lambda task: task.priority)
    ids = [task.id for task in tasks[: int(share * len(tasks))]]
    for start in range(0, len(ids), 500):
        store.add_votes([vote(rater, task_id) for task_id in ids[start : start + 500]])


def walk(leases: Leases, rater: str) -> tuple[float, float, int]:
    """Milliseconds until the rater holds a task, of the longest request, and requests."""
    took: list[float] = []
    while True:
        start = time.perf_counter()
        outcome = leases.next(rater, PLAN).result()
        took.append(1000 * (time.perf_counter() - start))
        if outcome.held:
            return sum(took), max(took), len(took)


def cast(leases: Leases, rater: str) -> dict[str, float]:
    """Vote and next, N_CASTS times."""
    lease_ms: list[float] = []
    another = leasing._another

    def timed(*args: Any) -> Any:
        start = time.perf_counter()
        found = another(*args)
        lease_ms.append(1000 * (time.perf_counter() - start))
        return found

    leasing._another = timed
    cast_ms: list[float] = []
    held = leases.next(rater, PLAN).result().held
    lease_ms.clear()
    for _ in range(N_CASTS):
        own = str(uuid.uuid4())

        def judged(seen: Seen, own: str = own) -> Vote:
            return vote(rater, seen.task.id, own)

        start = time.perf_counter()
        outcome = leases.cast(rater, Ballot(own, held[0].token, judged), PLAN).result()
        cast_ms.append(1000 * (time.perf_counter() - start))
        held = outcome.held
    leasing._another = another
    return {
        "lease_median_ms": statistics.median(lease_ms),
        "lease_p99_ms": statistics.quantiles(lease_ms, n=100)[98],
        "cast_median_ms": statistics.median(cast_ms),
        "cast_p99_ms": statistics.quantiles(cast_ms, n=100)[98],
    }


def measure(place: str, n: int) -> dict[str, Any]:
    """All three raters on a store made anew."""
    found: dict[str, Any] = {}
    with VoteStore.open(place, home=None) as store:
        for start in range(0, n, 5000):
            store.add([comparison(number) for number in range(start, start + 5000)], k=5)
        for rater, share in (("new", 0.0), ("one fifth", 0.2), ("nine tenths", 0.9)):
            vote_on_share(store, rater, share)
            leases = store.leases()
            total, longest, n_requests = walk(leases, rater)
            found[rater] = {
                "walk_ms": round(total, 2),
                "walk_longest_ms": round(longest, 2),
                "walk_requests": n_requests,
                **{name: round(value, 3) for name, value in cast(leases, rater).items()},
            }
    return found


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=100_000)
    parser.add_argument("--store", default=None)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = words.store or f"{folder}/votes.db"
        print(json.dumps(measure(place, words.comparisons)))


if __name__ == "__main__":
    main()
