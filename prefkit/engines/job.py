"""The parent's side of sampling: starts the worker process, shows its progress, reads its journal.

One job is one start of an engine. The worker's exit frees its memory, so a training stage finds
the machine empty. Killed at any time, parent or worker, the next call goes on where the journal
stands.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefkit.core.errors import EngineError, PrefkitError
from prefkit.core.files import holding, read_json, write_json
from prefkit.core.ids import content_id
from prefkit.core.progress import Progress, silent
from prefkit.core.records import Completion, Message
from prefkit.engines.base import Request, Sample
from prefkit.engines.faults import engine_error, known_error
from prefkit.engines.journal import read_answers
from prefkit.engines.requests import write_requests
from prefkit.engines.settings import Backend, EngineSettings
from prefkit.policy.load import policy_digest
from prefkit.policy.resolve import ModelSource, resolve_model

JOB = "job.json"
REQUESTS = "requests.parquet"
MANIFEST = "manifest.json"
LOG = "worker.log"
STOP_SECONDS = 5.0


def choose_backend(settings: EngineSettings) -> Backend:
    """What "auto" means here and now: a server, else vLLM, else transformers."""
    if settings.backend != "auto":
        return settings.backend
    if settings.server_url:
        return "server"
    return "vllm" if importlib.util.find_spec("vllm") else "transformers"


def source_for(
    model: str,
    settings: EngineSettings,
    *,
    revision: str | None = None,
    progress: Progress = silent,
) -> ModelSource:
    """The model of ``model``; for backends that read no weights here, a source that names them.

    A server's digest is its URL and model name: prefkit cannot see its weights.
    """
    backend = choose_backend(settings)
    if backend == "scripted":
        return ModelSource("scripted", Path(), "folder", None, content_id("scripted"), 0)
    if backend == "server":
        name = settings.server_model or model
        digest = content_id({"server": settings.server_url, "model": settings.server_model})
        return ModelSource(name, Path(), "hub", None, digest, 0)
    return resolve_model(model, revision=revision, progress=progress)


def sample(
    requests: Sequence[Request],
    *,
    source: ModelSource,
    adapter: Path | None,
    settings: EngineSettings,
    journal: Path,
    progress: Progress = silent,
) -> list[Completion]:
    """The completions of ``requests``: their order, n each, one after another.

    What the journal holds is not sampled again. A request without an answer (too long for the
    model, refused by the server) is left out and counted in ``worker_facts``. Raises EngineError
    where the engine does not start, stops, or answers nothing.
    """
    backend = choose_backend(settings)
    _check(backend, adapter, settings)
    policy = policy_digest(source, adapter)
    keys = [request.key(_identity(policy, backend, settings)) for request in requests]
    with holding(journal / ".job"):
        answers = read_answers(journal)
        pending = {k: r for k, r in zip(keys, requests, strict=True) if k not in answers}
        if pending:
            job = {
                "backend": backend,
                "policy": policy,
                "source": {**dataclasses.asdict(source), "path": str(source.path.resolve())},
                "adapter": str(adapter.resolve()) if adapter else None,
                "settings": settings.model_dump(mode="json"),
            }
            _run_worker(journal, job, pending, progress)
            answers = read_answers(journal)
    if requests and not any(key in answers for key in keys):
        reasons = worker_facts(journal).get("unanswered", {})
        raise EngineError(
            f"the {backend} engine answered none of {len(requests)} requests: "
            + ", ".join(f"{reason} ({n})" for reason, n in reasons.items()),
            hint="shorten the prompts or max_tokens, or look at the server's log",
        )
    completions: list[Completion] = []
    for key, request in zip(keys, requests, strict=True):
        completions += _completions(request, answers.get(key, []), policy)
    return completions


def worker_facts(journal: Path) -> dict[str, Any]:
    """What the last worker of a journal said of itself; empty where none has finished.

    backend, n_answers, unanswered {reason: requests}, seconds, load_seconds, peak_gib (of the
    worker process), versions.
    """
    path = journal / MANIFEST
    return dict(read_json(path)) if path.is_file() else {}


def _check(backend: Backend, adapter: Path | None, settings: EngineSettings) -> None:
    if backend == "server" and not settings.server_url:
        raise EngineError(
            "backend is server, but server_url is not set",
            hint="--set engine.server_url=http://127.0.0.1:8000/v1",
        )
    if backend == "server" and adapter is not None and not settings.server_model:
        raise EngineError(
            f"{adapter}: a running server does not take an adapter from here",
            hint="load it into the server (vllm serve --enable-lora --lora-modules NAME=DIR) and "
            "set engine.server_model=NAME",
        )


def _identity(policy: str, backend: Backend, settings: EngineSettings) -> str:
    """What a journal knows the policy by: made-up text is never taken for a model's."""
    if backend == "scripted":
        return content_id({"policy": policy, "script": settings.script})
    return policy


def _completions(request: Request, samples: Sequence[Sample], policy: str) -> list[Completion]:
    return [
        Completion.make(
            request.prompt.id,
            (Message.of("assistant", sample.text),),
            policy,
            sampling=request.sampling,
            seed=request.seed,
            sample_index=index,
            finish_reason=sample.finish_reason,
            logprob=sample.logprob,
        )
        for index, sample in enumerate(samples)
    ]


def _run_worker(
    journal: Path, job: dict[str, Any], pending: dict[str, Request], progress: Progress
) -> None:
    """Start the worker and follow it to its end; EngineError with its last words if it fails."""
    (journal / MANIFEST).unlink(missing_ok=True)
    write_requests(journal / REQUESTS, pending)
    write_json(journal / JOB, {**job, "parent": os.getpid()})
    what, total = f"sampling ({job['backend']})", sum(r.n for r in pending.values())
    progress(what, 0, total)
    # -P: a torch.py in the working folder must not be taken for the package.
    with open(journal / LOG, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "prefkit.engines.worker", str(journal)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **_environment()},
            start_new_session=True,
            text=True,
        )
    error: PrefkitError | None = None
    finished = False
    try:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if "done" in event:
                progress(what, event["done"], total)
            elif "error" in event:
                error = known_error(event["error"])
            finished = finished or "finished" in event
    finally:
        _end(process, finished)
    if error is not None:
        raise error
    if not finished:
        raise engine_error(job["backend"], process.returncode, journal / LOG)


def _environment() -> dict[str, str]:
    """The model is on disk by now: no network for libraries, and no telemetry."""
    return {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8:surrogatepass",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }


def _end(process: subprocess.Popen[str], finished: bool) -> None:
    """Leave nothing of the worker's process group behind.

    A finished worker has written all it has to say; killing it spares the engine's slow teardown.
    A worker that failed is waited for, an interrupted one is asked to flush first.
    """
    if not finished:
        with suppress(subprocess.TimeoutExpired):
            if sys.exc_info()[0] is not None:
                process.terminate()
            process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
