"""What every request passes first: the Host, who sent it, how large it is; and what every
response carries.

Other web pages open in the same browser can send requests to 127.0.0.1 too. The Host check stops
a name of theirs that resolves to us (DNS rebinding), the origin check and our own header stop
their forms and scripts from voting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

API_PREFIX = "/api/v1/"
OWN_HEADER = "x-prefkit"
MAX_BODY = 64 * 1024
# Gradio builds gr.HTML templates with `new Function`: without 'unsafe-eval' they stay empty.
POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "frame-src 'none'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """ASGI middleware in front of the whole app, Gradio's own routes among them."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        names = {"127.0.0.1", "localhost", "[::1]"}
        self._hosts = {f"{name}:{port}" for name in names}
        if port == 80:  # browsers leave the default port out
            self._hosts |= names
        self._origins = {f"http://{host}" for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse with 4xx, or pass on and add the headers."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        refusal = self._refusal(scope, headers)
        if refusal is None:
            await self._app(scope, receive, _with_headers(send, scope))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _refuse(_with_headers(send, scope), *refusal)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        if headers.get("host", "") not in self._hosts:
            return 421, "this address is not served here"
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            return None
        if headers.get("origin", next(iter(self._origins))) not in self._origins:
            return 403, "requests from other sites are refused"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "requests from other sites are refused"
        if not scope["path"].startswith(API_PREFIX):
            return None
        if OWN_HEADER not in headers:
            return 403, f"the header {OWN_HEADER} is missing"
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return 411, "content-length is missing"
        return (413, "the request is too large") if int(length) > MAX_BODY else None


def _with_headers(send: Send, scope: Scope) -> Send:
    added = dict(HEADERS)
    if scope["path"].startswith(API_PREFIX):
        added["cache-control"] = "no-store"

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message["headers"] if pair[0].lower().decode() not in added]
            fresh = [(name.encode(), value.encode()) for name, value in added.items()]
            message = {**message, "headers": [*kept, *fresh]}
        await send(message)

    return sending


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = reason.encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
