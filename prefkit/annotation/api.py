"""The app with the routes of one rater on it and the guard before it."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from prefkit.annotation.guard import Guard
from prefkit.annotation.rater_api import rater_router, status_of
from prefkit.annotation.session import Session
from prefkit.annotation.settings import AnnotateSettings
from prefkit.core.errors import ConfigError, DataError, PrefkitError
from prefkit.store import VoteStore


def build_api(
    session: Session, store: VoteStore, settings: AnnotateSettings, rater: str, port: int
) -> FastAPI:
    """The app for whoever sits at this machine; the page is mounted by its caller."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, port=port)
    add_fault_handlers(app)
    app.include_router(rater_router(session, store, settings, lambda: rater))
    return app


def add_fault_handlers(app: FastAPI) -> None:
    """Let faults come out as a status and one line of text."""
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(PrefkitError, _on_fault)
    app.add_exception_handler(HTTPException, _on_refusal)


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
    # What was sent; a store has faults of its own.
    status = 422 if isinstance(error, DataError | ConfigError) else status_of(error)
    said = {"error": error.message, "hint": error.hint}
    return JSONResponse({key: _encodable(text) for key, text in said.items()}, status_code=status)


def _on_refusal(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def _encodable(text: str | None) -> str | None:
    """A lone surrogate that was sent and is quoted could not be encoded."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")
