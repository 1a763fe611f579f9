"""The app with the routes of one rater on it and the guard before it."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from prefkit.annotation.guard import Guard
from prefkit.annotation.rater_api import rater_router, status_of
from prefkit.annotation.session import Session
from prefkit.annotation.settings import AnnotateSettings
from prefkit.core.errors import PrefkitError
from prefkit.store import VoteStore


def build_api(
    session: Session, store: VoteStore, settings: AnnotateSettings, rater: str, port: int
) -> FastAPI:
    """The app for whoever sits at this machine; the page is mounted by its caller."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, port=port)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(PrefkitError, _on_fault)
    app.include_router(rater_router(session, store, settings, lambda: rater))
    return app


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
    said = {"error": error.message, "hint": error.hint}
    return JSONResponse(said, status_code=status_of(error))
