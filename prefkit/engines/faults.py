"""What a worker died of, in words that a user can act on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefkit.core import errors
from prefkit.core.errors import EngineError, PrefkitError

TAIL_LINES = 6

# (any of these in the log, the mend), first match wins.
MENDS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("VLLM_CPU_KVCACHE_SPACE", "No available memory for the cache", "KV cache is needed"),
        "raise engine.cpu_kv_gib (CPU) or engine.gpu_memory_utilization (GPU), or lower "
        "engine.max_model_len",
    ),
    (
        ("Free memory on device", "gpu_memory_utilization", "available memory"),
        "lower engine.gpu_memory_utilization, or free the memory that other programs hold",
    ),
    (
        ("out of memory", "OutOfMemoryError", "can't allocate memory", "MemoryError"),
        "lower engine.batch_size, or choose a smaller model",
    ),
    (
        ("No space left on device", "the disk is full"),
        "free some space and run the same command again; finished answers are kept",
    ),
    (
        ("libnuma", "GLIBC", "undefined symbol", "ImportError", "ModuleNotFoundError"),
        "the engine's installation is broken: run prefkit doctor, or use --backend transformers",
    ),
)


def engine_error(backend: str, returncode: int | None, log: Path) -> EngineError:
    """The error for a worker that ended without saying why: its last words and a mend."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    words = [line.strip() for line in text.splitlines() if line.strip()][-TAIL_LINES:]
    message = f"the {backend} engine stopped ({_ended(returncode)})"
    if words:
        message += ":\n" + "\n".join(words)
    hint = next((mend for marks, mend in MENDS if any(mark in text for mark in marks)), None)
    if hint is None and returncode == -9:
        hint = (
            "the system may have run out of memory: lower engine.batch_size; then run the "
            "same command again, finished answers are kept"
        )
    return EngineError(message, hint=hint or f"the whole log: {log}")


def known_error(event: dict[str, Any]) -> PrefkitError:
    """A PrefkitError that the worker raised, rebuilt here with its class."""
    kind = getattr(errors, str(event["kind"]), EngineError)
    if not (isinstance(kind, type) and issubclass(kind, PrefkitError)):
        kind = EngineError
    if kind is errors.MissingExtra:
        # Its constructor takes other arguments; the hint already names the extra.
        kind = errors.EnvironmentFault
    return kind(str(event["message"]), hint=event["hint"])


def _ended(returncode: int | None) -> str:
    if returncode is None:
        return "no exit code"
    return f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
