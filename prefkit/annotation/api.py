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
from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from prefkit.annotation.guard import API_PREFIX, Guard
from prefkit.annotation.render import render_markdown
from prefkit.annotation.session import Ballot, IdTaken, Key, NotServed, Pair, Session
from prefkit.annotation.settings import AnnotateSettings
from prefkit.core.errors import ConfigError, DataError, PrefkitError

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
    """An app of one rater, without accounts: the routes behind the guard."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, port=port)
    add_fault_handlers(app)
    add_rater_routes(app, lambda: session, settings)
    return app


def add_fault_handlers(app: FastAPI) -> None:
    """Let faults come out as a status and one line of text."""
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(PrefkitError, _on_fault)
    app.add_exception_handler(HTTPException, _on_refusal)


def add_rater_routes(
    app: FastAPI, session_of: Callable[..., Session], settings: AnnotateSettings
) -> None:
    """The routes of the rater page. session_of: the dependency that gives the caller's Session."""
    of_caller = Depends(session_of)

    # Plain functions: FastAPI runs them in threads, so a slow disk blocks no one else.
    @app.get(f"{API_PREFIX}next")
    def next_pair(session: Session = of_caller) -> dict[str, Any]:
        return _state(session, session.next_pair())

    @app.get(f"{API_PREFIX}progress")
    def progress(session: Session = of_caller) -> dict[str, Any]:
        return dataclasses.asdict(session.progress())

    @app.get(f"{API_PREFIX}guidelines")
    def guidelines() -> dict[str, str]:
        return {
            "html": render_markdown(settings.guidelines, breaks=False),
            "version": settings.guideline_version,
        }

    @app.post(f"{API_PREFIX}votes")
    def vote(body: VoteBody, session: Session = of_caller) -> dict[str, Any]:
        saved = session.vote(Ballot(str(body.id), body.task_id, body.key, body.active_ms))
        facts = {"id": saved.id, "choice": saved.choice, "strength": saved.strength}
        return {"saved": facts, **_state(session, session.next_pair())}

    @app.post(f"{API_PREFIX}undo")
    def undo(body: UndoBody, session: Session = of_caller) -> dict[str, Any]:
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
    status = 503
    if isinstance(error, NotServed | IdTaken):
        status = 404 if isinstance(error, NotServed) else 409
    elif isinstance(error, DataError | ConfigError):  # what was sent; a store has faults of its own
        status = 422
    said = {"error": error.message, "hint": error.hint}
    return JSONResponse({key: _encodable(text) for key, text in said.items()}, status_code=status)


def _on_refusal(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def _encodable(text: str | None) -> str | None:
    """A lone surrogate that was sent and is quoted could not be encoded."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")
