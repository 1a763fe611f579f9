"""``make bench-annotate``: fifty raters on the real app, SQLite and PostgreSQL, full durability.

Protocol: benchmarks/README.md. The last line of stdout is one JSON object on one line; all else
goes to stderr, and details to benchmarks/.runs. Exit code 1 where a vote was lost or doubled, a
comparison served too often, or the store is not sound.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.annotate import clients, disk, team
from benchmarks.annotate.browsers import CHROMIUM
from benchmarks.annotate.ledger import Check, check
from prefkit.store import VoteStore

ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "benchmarks" / ".runs"
N_BROWSERS = 2
BUDGET_MS = {"vote_p95_ms": 40.0, "paint_hit_p95_ms": 60.0}
KEYS = (
    "vote_p95_ms", "votes_per_s", "fsyncs_per_s", "paint_hit_p95_ms", "paint_miss_p95_ms",
    "lost", "duplicate", "over_served",
)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How much is measured: comparisons, seconds of each load, presses of each paint phase."""

    comparisons: int
    open_seconds: float
    full_seconds: float
    presses: int
    every: float


FULL = Size(100_000, 60, 30, 60, 1.0)
QUICK = Size(2_000, 8, 4, 10, 0.7)


def main() -> int:
    """Measure both databases and print the line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute: does it run?")
    parser.add_argument("--only", choices=("sqlite", "postgresql"), help="one of the two")
    words = parser.parse_args()
    size = QUICK if words.quick else FULL
    if not Path(CHROMIUM).exists():
        raise SystemExit(f"{CHROMIUM} is not there: apt-get install chromium")
    found: dict[str, Any] = {}
    is_sound = True
    for name in ("sqlite", "postgresql"):
        if words.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory(prefix="prefkit-bench-") as folder, _database(name) as at:
            say(f"{name}: {size.comparisons} comparisons")
            details = measure(Path(folder) / "work.prefkit", at, size)
        RUNS.mkdir(parents=True, exist_ok=True)
        (RUNS / f"annotate-{name}.json").write_text(json.dumps(details, indent=2) + "\n")
        found[name] = {key: details[key] for key in KEYS}
        _report(name, details)
        is_sound &= not (details["lost"] or details["duplicate"] or details["over_served"])
        is_sound &= not details["faults"]
    print(json.dumps(found))
    return 0 if is_sound else 1


def say(text: str) -> None:
    """A line on stderr, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


@contextmanager
def _database(name: str) -> Generator[tuple[str | None, Path | None]]:
    """The address of the votes and the folder they are on; both None for a file."""
    if name == "sqlite":
        yield None, None
        return
    sys.path.insert(0, str(ROOT / "tests"))
    import psycopg
    from postgres_server import postgres_server

    with postgres_server(fsync=True) as address:
        with psycopg.connect(address) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
        assert row is not None
        yield address.replace("postgresql://", "postgresql+psycopg://"), Path(row[0])


def measure(folder: Path, at: tuple[str | None, Path | None], size: Size) -> dict[str, Any]:
    """All figures of one database."""
    address, disk_at = at
    start = time.perf_counter()
    people = team.make_workspace(folder, address, size.comparisons)
    say(f"workspace made in {time.perf_counter() - start:.0f} s")
    details: dict[str, Any] = {"machine": _machine(), "size": asdict(size)}
    details["fsyncs_per_s"] = round(disk.fsyncs_per_s(disk_at or folder), 1)
    watched, others = people[:N_BROWSERS], people[N_BROWSERS:]
    with team.serving(folder) as servers:
        browsing = _Browsing(servers[0], watched)
        say("Chromium alone: prefetched, then not")
        for name, cut in (("hit", False), ("miss", True)):
            seen = browsing.measure(size, cut=cut, n_pages=1)
            details[f"paint_{name}_p95_ms"] = p95(seen["paints"])
            details[f"paint_{name}"] = _spread(seen["paints"])
        loads = asyncio.run(_load(others, servers, browsing, size))
    details |= loads["details"]
    with VoteStore.open(address or folder / "votes.db", home=folder) as store:
        result: Check = check(store, loads["ledger"], browsing.seen)
    return details | asdict(result)


async def _load(
    people: Sequence[team.Person],
    servers: Sequence[team.Server],
    browsing: _Browsing,
    size: Size,
) -> dict[str, Any]:
    """The open loop with the browsers beside it, then as much as goes."""
    raters = [
        clients.Rater(person, servers[number % len(servers)], random.Random(number))
        for number, person in enumerate(people)
    ]
    await clients.warm(raters)
    say(f"open loop: {len(raters)} clients and {N_BROWSERS} Chromium, a vote a second each")
    browser = await asyncio.to_thread(browsing.start, size.open_seconds)
    took = await clients.open_loop(raters, size.open_seconds)
    seen = await asyncio.to_thread(browsing.finish, browser)
    say("saturated")
    votes_per_s = await clients.saturate(raters, size.full_seconds)
    for rater in raters:
        rater.close()
    details = {
        "vote_p95_ms": p95(took),
        "vote": _spread(took),
        "votes_per_s": round(votes_per_s, 1),
        "paint_under_load": _spread(seen["paints"]),
        "n_refused": sum(rater.n_refused for rater in raters),
        "n_sent_again": sum(rater.n_again for rater in raters),
    }
    ledger = {vote_id: told for rater in raters for vote_id, told in rater.ledger.items()}
    return {"details": details, "ledger": ledger}


class _Browsing:
    """Chromium in a process of its own. seen: rater → ids of votes that it was told are saved."""

    def __init__(self, server: team.Server, people: Sequence[team.Person]) -> None:
        self._server = server
        self._people = people
        self.seen: dict[str, list[str]] = {person.id: [] for person in people}

    def measure(self, size: Size, *, cut: bool, n_pages: int) -> dict[str, Any]:
        """Label without other load."""
        process = self._open(n_pages, size.presses, size.every, cut=cut)
        return self.finish(self._go(process))

    def start(self, seconds: float) -> subprocess.Popen[str]:
        """Label beside other load, one vote a second a page."""
        return self._go(self._open(len(self._people), int(seconds), 1.0, cut=False))

    def _open(self, n_pages: int, n: int, every: float, *, cut: bool) -> subprocess.Popen[str]:
        cookies = [
            [f"prefkit-{self._server.port}", person.cookie] for person in self._people[:n_pages]
        ]
        url = f"http://127.0.0.1:{self._server.port}/"
        words = {"url": url, "cookies": cookies, "n": n, "every": every, "cut": cut}
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.annotate.browsers", json.dumps(words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise SystemExit("Chromium did not show a pair")
        return process

    def _go(self, process: subprocess.Popen[str]) -> subprocess.Popen[str]:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        return process

    def finish(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """Wait for the end; what the pages saw."""
        out, _ = process.communicate(timeout=600)
        seen = json.loads(out.rstrip("\n").split("\n")[-1])
        for person, votes in zip(self._people, seen["votes"], strict=False):
            self.seen[person.id] += votes
        return seen


def p95(values: Sequence[float]) -> float:
    """The 95th percentile (nearest rank), in milliseconds to a tenth."""
    ordered = sorted(values)
    return round(ordered[max(0, -(-95 * len(ordered) // 100) - 1)], 1)


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    middle = ordered[len(ordered) // 2]
    return {
        "n": len(ordered),
        "p50": round(middle, 1),
        "p95": p95(values),
        "max": round(ordered[-1], 1),
    }


def _machine() -> dict[str, Any]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown",
    )
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "python": sys.version.split()[0]}


def _report(name: str, details: dict[str, Any]) -> None:
    for key in KEYS:
        budget = f"  (goal {BUDGET_MS[key]:g})" if key in BUDGET_MS else ""
        say(f"{name}: {key} {details[key]}{budget}")
    say(f"{name}: vote {details['vote']}")
    say(f"{name}: paint hit {details['paint_hit']}, miss {details['paint_miss']}")
    say(f"{name}: paint under load {details['paint_under_load']}")
    said = {key: details[key] for key in ("n_votes", "n_refused", "n_sent_again")}
    say(f"{name}: {said}, store: {details['faults'] or 'sound'}")


if __name__ == "__main__":
    raise SystemExit(main())
