"""Text engines behind one seam: vLLM, a server, transformers, scripted; run in a child process."""

from prefkit.engines.base import Engine, Request, Sample, Unanswered
from prefkit.engines.job import choose_backend, sample, source_for, worker_facts
from prefkit.engines.settings import EngineSettings

__all__ = [
    "Engine",
    "EngineSettings",
    "Request",
    "Sample",
    "Unanswered",
    "choose_backend",
    "sample",
    "source_for",
    "worker_facts",
]
