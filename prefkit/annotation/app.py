"""The app: every router behind the guard, and the log-in page. Gradio is mounted by its caller.

GET  /login              the log-in page; who is logged in, and the way out, for those who are
POST /login              name and password of a form → a cookie, and on to /
GET  /login/oidc[/back]  to the identity provider and back (annotation/oidc.py)
POST /logout             the end of the session
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from prefkit.annotation import public_api, routes
from prefkit.annotation.auth import Admission, Locked, Sessions, Who, caller
from prefkit.annotation.guard import Guard, client_address, read_headers
from prefkit.annotation.lead_api import lead_router
from prefkit.annotation.me import me_router
from prefkit.annotation.media import media_router
from prefkit.annotation.rater_api import rater_router
from prefkit.annotation.session import Session
from prefkit.annotation.settings import AnnotateSettings
from prefkit.core.errors import ConfigError, DataError, PrefkitError
from prefkit.store import VoteStore
from prefkit.store.accounts import plain_name
from prefkit.store.leases import Spent
from prefkit.store.shown import IdTaken, NotServed
from prefkit.store.tokens import Tokens

if TYPE_CHECKING:
    from prefkit.annotation.oidc import Provider

_WRONG = "That name and password do not belong together."


@dataclass(frozen=True, slots=True)
class Parts:
    """What the app is made of. session: what raters do; sessions: who they are.

    login_page: HTML with $title, $message and $body. host: an address of this machine, other
    than its loopback, that is served too. provider: None without an identity provider. media: the
    folder of images and audio files. next_command: what to run when all is labelled. method: how
    votes are aggregated.
    """

    store: VoteStore
    session: Session
    sessions: Sessions
    tokens: Tokens
    settings: AnnotateSettings
    port: int
    login_page: str
    host: str | None = None
    provider: Provider | None = None
    media: Path = Path("media")
    next_command: str = ""
    method: str = "auto"


def build_app(parts: Parts) -> FastAPI:
    """The app without its Gradio pages; every route of it has its entry in ``routes.POLICY``."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # The last one added is the first one asked.
    app.add_middleware(Admission, sessions=parts.sessions)
    app.add_middleware(
        Guard, port=parts.port, public_url=parts.settings.public_url, host=parts.host
    )
    add_fault_handlers(app)

    async def rater_of(request: Request) -> str:
        return caller(request).id

    app.include_router(rater_router(parts.session, parts.store, parts.settings, rater_of))
    app.include_router(me_router(parts.store, parts.settings, parts.next_command, caller))
    app.include_router(media_router(parts.session, parts.media))
    app.include_router(
        lead_router(parts.store, parts.settings, parts.session.guidelines, parts.method)
    )
    app.include_router(public_api.router(parts.store, parts.tokens, parts.settings, parts.method))
    _add_login(app, parts)
    if parts.provider is not None:
        _add_provider(app, parts, parts.provider)
    routes.check(app)
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
    said = {"error": error.message, "hint": error.hint}
    shown = {key: _encodable(text) for key, text in said.items()}
    return JSONResponse(shown, status_code=_status_of(error))


def _status_of(error: PrefkitError) -> int:
    """404, 409 and 422 for what a request got wrong; 503 for a store in trouble."""
    if isinstance(error, NotServed):
        return 404
    if isinstance(error, IdTaken | Spent):
        return 409
    return 422 if isinstance(error, DataError | ConfigError) else 503


def _on_refusal(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def _encodable(text: str | None) -> str | None:
    """A lone surrogate that was sent and is quoted could not be encoded."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _add_login(app: FastAPI, parts: Parts) -> None:
    sessions = parts.sessions

    @app.get("/login")
    async def login_page(request: Request) -> Response:
        if sessions.local is not None:
            return RedirectResponse("/", 303)
        return _page(parts, who=await sessions.who(read_headers(request.scope)))

    @app.post("/login")
    async def log_in(request: Request) -> Response:
        if sessions.local is not None:
            return RedirectResponse("/", 303)
        form = _form(await request.body(), request.headers.get("content-type", ""))
        name, password = plain_name(form.get("name", "")), form.get("password", "")
        address = client_address(request.scope, parts.settings.proxies)
        try:
            account = await sessions.log_in(name, password, address)
        except Locked as locked:
            said = _page(parts, f"{locked.message.capitalize()} ({locked.seconds} s).", status=429)
            said.headers["retry-after"] = str(locked.seconds)
            return said
        if account is None:
            return _page(parts, _WRONG, status=401)
        away = RedirectResponse("/", 303)
        away.set_cookie(**await sessions.open(account))
        return away

    @app.post("/logout")
    async def log_out(request: Request) -> Response:
        await sessions.close(request.headers.get("cookie", ""))
        away = RedirectResponse("/login", 303)
        away.set_cookie(**sessions.cookie_facts(sessions.cookie, "", 0))
        return away


def _add_provider(app: FastAPI, parts: Parts, provider: Provider) -> None:
    sessions = parts.sessions

    @app.get("/login/oidc")
    async def leave() -> Response:
        try:
            address, kept = await provider.begin()
        except PrefkitError as error:
            return _page(parts, error.message, status=503)
        away = RedirectResponse(address, 303)
        away.set_cookie(**kept)
        return away

    @app.get("/login/oidc/back")
    async def back(request: Request) -> Response:
        query = dict(request.query_params)
        try:
            account = await provider.finish(query, request.headers.get("cookie", ""))
        except PrefkitError as error:
            return _page(parts, error.message, status=403)
        away = RedirectResponse("/", 303)
        away.set_cookie(**await sessions.open(account))
        away.set_cookie(**provider.forget())
        return away


def _form(body: bytes, content_type: str) -> dict[str, str]:
    """The fields of a form, the first of each name; 4xx for what is no form."""
    if content_type.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise HTTPException(415, "expected a form")
    try:
        text = body.decode("utf-8")
        fields = parse_qs(text, keep_blank_values=True, max_num_fields=16, errors="strict")
    except ValueError:  # UnicodeDecodeError among them
        raise HTTPException(400, "not a form in UTF-8") from None
    return {name: values[0] for name, values in fields.items()}


def _page(
    parts: Parts, message: str = "", *, who: Who | None = None, status: int = 200
) -> Response:
    if who is not None:
        title = f"You are logged in as {html.escape(who.name)}"
        body = _LOGGED_IN
    else:
        title = "Log in"
        body = _FORM + (_PROVIDER if parts.provider is not None else "")
    said = f'<p class="message" role="alert">{html.escape(message)}</p>' if message else ""
    facts: dict[str, Any] = {"title": title, "message": said, "body": body}
    return HTMLResponse(Template(parts.login_page).substitute(facts), status)


_FORM = """\
<form method="post" action="/login">
<label for="name">Name</label>
<input id="name" name="name" autocomplete="username" autocapitalize="none" required autofocus>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button>Log in</button>
</form>
"""
_PROVIDER = '<p><a class="other" href="/login/oidc">Log in through your organisation</a></p>\n'
_LOGGED_IN = """\
<p><a class="other" href="/">Go to the pairs</a></p>
<form method="post" action="/logout"><button>Log out</button></form>
"""
