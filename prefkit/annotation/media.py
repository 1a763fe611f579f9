"""Images and audio files of the pairs that a rater was shown.

    GET /api/v1/media/{task_id}/{n}   the n-th medium of a task's comparison

A lead, who may read every pair, may see those of pairs that nobody has shown them, by the
comparison's id.

A path comes from the comparison's record and never from the address, must lie in the media folder
once every link is followed, and is sent as what its first bytes say it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException
from fastapi import Path as InPath
from fastapi.responses import Response

from prefkit.annotation.auth import Who, caller
from prefkit.annotation.guard import API_PREFIX
from prefkit.annotation.rater_api import TaskId
from prefkit.annotation.session import Session
from prefkit.core.records import Part

_WHO: Any = Depends(caller)
LARGEST = 20 * 1024 * 1024
_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
)
_IN_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}


def media_router(session: Session, folder: Path) -> APIRouter:
    """The route."""
    router = APIRouter(prefix=API_PREFIX.rstrip("/"))

    @router.get("/media/{task_id}/{n}")
    def medium(
        task_id: TaskId, n: Annotated[int, InPath(ge=0, lt=1000)], who: Who = _WHO
    ) -> Response:
        parts = session.media(who.id, task_id, any_pair=who.may("lead"))
        found = read_medium(folder, parts[n]) if n < len(parts) else None
        if found is None:
            raise HTTPException(404, "there is nothing at this address")
        body, kind = found
        return Response(body, media_type=kind, headers={"content-disposition": "inline"})

    return router


def read_medium(folder: Path, part: Part) -> tuple[bytes, str] | None:
    """The bytes and the type of a file in ``folder``.

    None: it is not there, lies elsewhere, is too large, or is not of the kind that ``part`` says.
    """
    home = folder.resolve()
    try:
        path = (home / (part.path or "")).resolve(strict=True)
        if not (path.is_relative_to(home) and path.is_file()) or path.stat().st_size > LARGEST:
            return None
        body = path.read_bytes()
    except (OSError, ValueError, RuntimeError):  # a NUL in the name; links in a circle
        return None
    kind = type_of(body)
    return None if kind is None or not kind.startswith(f"{part.kind}/") else (body, kind)


def type_of(body: bytes) -> str | None:
    """The media type that the first bytes tell; None for all that is not drawn or played."""
    if body[:4] == b"RIFF":
        return _IN_RIFF.get(body[8:12])
    return next((kind for start, kind in _STARTS if body.startswith(start)), None)
