"""The user's cache folder: converted models and remembered digests."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from prefkit.core.files import file_digest, write_json
from prefkit.core.ids import content_id


def cache_folder() -> Path:
    """$PREFKIT_CACHE, else $XDG_CACHE_HOME/prefkit, else ~/.cache/prefkit (not created here)."""
    own = os.environ.get("PREFKIT_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared).expanduser() if shared else Path.home() / ".cache") / "prefkit"


def cached_file_digest(path: Path) -> str:
    """``file_digest`` of one file, remembered by its path, size and modification time.

    A 16 GB model is read once. A file changed without a new size or time is not noticed; no tool
    that writes models does that.
    """
    real = path.resolve()
    stat = real.stat()
    key = content_id([str(real), stat.st_size, stat.st_mtime_ns])
    note = cache_folder() / "digests" / f"{key}.json"
    known = _read_note(note)
    if known is None:
        known = file_digest(real)
        write_json(note, {"path": str(real), "digest": known})
    return known


def files_digest(root: Path, files: Sequence[Path]) -> str:
    """A digest over names (relative to ``root``) and contents of ``files``, free of their order."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(files):
        name = path.relative_to(root).as_posix()
        digest.update(f"{name}\0{cached_file_digest(path)}\n".encode())
    return digest.hexdigest()


def _read_note(note: Path) -> str | None:
    try:
        return str(json.loads(note.read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
