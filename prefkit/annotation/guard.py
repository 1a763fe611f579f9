"""What every request passes first: the Host, who sent it, how large it is; and what every
response carries.

Other web pages open in the same browser can send requests to 127.0.0.1 too. The Host check stops
a name of theirs that resolves to us (DNS rebinding), the origin check and our own header stop
their forms and scripts from voting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

API_PREFIX = "/api/v1/"
MEDIA_PREFIX = API_PREFIX + "media/"
OWN_HEADER = "x-prefkit"  # of a page's request: the id of the person whose page it is, or
ANYBODY = "1"
LOGIN = "/login"
# A vote with the longest edit and reason in any script: 36,000 characters of three bytes.
MAX_BODY = 128 * 1024
BATCHES = ("/api/v1/comparisons",)
MAX_BATCH = 8 * 1024 * 1024
BODY_SECONDS = 30
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
# The log-in page has no script at all.
LOGIN_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
# An image or a sound, opened for itself: whatever its bytes are, it is nothing that acts.
MEDIA_POLICY = "default-src 'none'; sandbox; base-uri 'none'; frame-ancestors 'none'"
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """ASGI middleware in front of the whole app, Gradio's own routes among them.

    public_url: the address that people use, where it is not this machine's own; host: another
    address of this machine that is served as well. Both are for apps with accounts.
    """

    def __init__(
        self, app: ASGIApp, port: int, public_url: str | None = None, host: str | None = None
    ) -> None:
        self._app = app
        names = {"127.0.0.1", "localhost", "[::1]"} | ({host} if host else set())
        self._hosts = {f"{name}:{port}" for name in names}
        if port == 80:  # browsers leave the default port out
            self._hosts |= names
        self._origins = {f"http://{served}" for served in self._hosts}
        self._secure = False
        if public_url is not None:
            # As a browser writes it: in small letters, without the port that goes without saying.
            scheme, _, served = public_url.rstrip("/").lower().partition("://")
            served = served.removesuffix(":443" if scheme == "https" else ":80")
            self._hosts.add(served)
            self._origins.add(f"{scheme}://{served}")
            self._secure = scheme == "https"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse with 4xx, or pass on and add the headers."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = read_headers(scope)
        refusal = self._refusal(scope, headers)
        sending = _with_headers(send, scope, secure=self._secure)
        if refusal is None:
            most = MAX_BATCH if scope["path"] in BATCHES else MAX_BODY
            await self._app(scope, _bounded(receive, most), sending)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _refuse(sending, *refusal)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        if headers.get("host", "") not in self._hosts:
            return 421, "this address is not served here"
        path = scope["path"]
        if "\\" in path or "\0" in path or "//" in path or ".." in path.split("/"):
            return 404, "there is nothing at this address"
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            return None
        if headers.get("origin", next(iter(self._origins))) not in self._origins:
            return 403, "requests from other sites are refused"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "requests from other sites are refused"
        # A form of another site can set neither header.
        if path.startswith(API_PREFIX) and not {OWN_HEADER, "authorization"} & headers.keys():
            return 403, f"the header {OWN_HEADER} is missing"
        if scope["type"] == "http" and scope["method"] == "DELETE":
            return None
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdecimal()):
            return 411, "content-length is missing"
        most = MAX_BATCH if path in BATCHES else MAX_BODY
        return (413, "the request is too large") if int(length[:20]) > most else None


def read_headers(scope: Scope) -> dict[str, str]:
    """The headers of a request by their names in lower case; the last one of a name counts."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def client_address(scope: Scope, proxies: Iterable[str]) -> str:
    """Where a request comes from: what the last of our own proxies says, else who connected."""
    networks = [ip_network(proxy) for proxy in proxies]
    address = (scope.get("client") or ("", 0))[0]
    passed_on = read_headers(scope).get("x-forwarded-for", "").split(",")
    while passed_on and _is_among(address, networks):
        address = passed_on.pop().strip() or address
    return address


def place_of(address: str) -> str:
    """An address, or the /64 of an IPv6 one: whoever has one address of it has all of them."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ip_network((found, 64), strict=False))


def _is_among(address: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    try:
        place = ip_address(address)
    except ValueError:
        return False
    return any(place in network for network in networks)


def _bounded(receive: Receive, most: int) -> Receive:
    """``receive`` that gives at most ``most`` bytes of a body, and does not wait for ever."""
    left = most
    whole = False

    async def receiving() -> Message:
        nonlocal left, whole
        if whole:  # what comes now is the end of the connection, in its own time
            return await receive()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "the request did not come in time") from None
        left -= len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if left < 0:
            raise HTTPException(413, "the request is too large")
        return message

    return receiving


def _with_headers(send: Send, scope: Scope, *, secure: bool) -> Send:
    added = dict(HEADERS)
    if secure:
        added["strict-transport-security"] = "max-age=31536000"
    if scope["path"].startswith((API_PREFIX, LOGIN)):
        added["cache-control"] = "no-store"
    if scope["path"].startswith(LOGIN):
        # With no-referrer a browser sends "Origin: null" with the form, which we refuse.
        added["referrer-policy"] = "same-origin"
        added["content-security-policy"] = LOGIN_POLICY

    if scope["path"].startswith(MEDIA_PREFIX):
        added["content-security-policy"] = MEDIA_POLICY

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
