"""The HTTP API of the labelling page: a thin skin over Session.

    GET  /api/v1/next         the pair to show and the progress
    GET  /api/v1/guidelines   what raters are told, as sanitised HTML
    GET  /api/v1/progress
    POST /api/v1/votes        {id, task_id, key, active_ms} → saved vote, next pair, progress
    POST /api/v1/undo         {id} → the pair to judge again, progress

A POST carries the header ``x-prefkit`` and a UUID made by the page: sent again after a lost
reply it changes nothing. Bad input is a 4xx with one line of text, never a 5xx.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from prefkit.annotation.guard import API_PREFIX, Guard
from prefkit.annotation.render import render_markdown
from prefkit.annotation.session import Ballot, IdTaken, Key, NotServed, Pair, Session
from prefkit.annotation.settings import AnnotateSettings
from prefkit.core.errors import PrefkitError

_DAY_MS = 24 * 60 * 60 * 1000


class VoteBody(BaseModel):
    """What POST /votes takes."""

    model_config = ConfigDict(extra="forbid")
    id: UUID
    task_id: Annotated[str, Field(pattern=r"\A[A-Za-z0-9_-]{1,64}\z")]
    key: Key
    active_ms: Annotated[int, Field(strict=True, ge=0, le=_DAY_MS)] | None = None


class UndoBody(BaseModel):
    """What POST /undo takes."""

    model_config = ConfigDict(extra="forbid")
    id: UUID


def build_api(session: Session, settings: AnnotateSettings, port: int) -> FastAPI:
    """The app with the API on it and the guard before it; the page is mounted by its caller."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, port=port)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(PrefkitError, _on_fault)
    _add_routes(app, session, settings)
    return app


def _add_routes(app: FastAPI, session: Session, settings: AnnotateSettings) -> None:
    # Plain functions: FastAPI runs them in threads, so a slow disk blocks no one else.
    @app.get(f"{API_PREFIX}next")
    def next_pair() -> dict[str, Any]:
        return _state(session, session.next_pair())

    @app.get(f"{API_PREFIX}progress")
    def progress() -> dict[str, Any]:
        return dataclasses.asdict(session.progress())

    @app.get(f"{API_PREFIX}guidelines")
    def guidelines() -> dict[str, str]:
        return {
            "html": render_markdown(settings.guidelines, breaks=False),
            "version": settings.guideline_version,
        }

    @app.post(f"{API_PREFIX}votes")
    def vote(body: VoteBody) -> dict[str, Any]:
        saved = session.vote(Ballot(str(body.id), body.task_id, body.key, body.active_ms))
        facts = {"id": saved.id, "choice": saved.choice, "strength": saved.strength}
        return {"saved": facts, **_state(session, session.next_pair())}

    @app.post(f"{API_PREFIX}undo")
    def undo(body: UndoBody) -> dict[str, Any]:
        pair = session.undo(str(body.id))
        undone = pair is not None
        return {"undone": undone, **_state(session, pair if undone else session.next_pair())}


def _state(session: Session, pair: Pair | None) -> dict[str, Any]:
    return {
        "pair": dataclasses.asdict(pair) if pair is not None else None,
        "progress": dataclasses.asdict(session.progress()),
    }


def _on_invalid(_request: Request, error: Exception) -> JSONResponse:
    """422 without an echo: a NaN or a lone surrogate sent back could not be encoded."""
    assert isinstance(error, RequestValidationError)
    faults = [
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        for fault in error.errors()
    ]
    text = "; ".join(faults).encode("ascii", "backslashreplace").decode()
    return JSONResponse({"error": text[:1000]}, status_code=422)


def _on_fault(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PrefkitError)
    status = 404 if isinstance(error, NotServed) else 409 if isinstance(error, IdTaken) else 503
    return JSONResponse({"error": error.message, "hint": error.hint}, status_code=status)
