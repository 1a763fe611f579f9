"""Who is asking: sessions in a signed cookie, bearer tokens, and log-in by name and password.

The cookie is ``SESSION.EXPIRES.HMAC``. It only names a row of ``sessions``: whether that still
stands is asked of the store at every request, so a log-out, a new password or a disabled account
holds at once and everywhere.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from prefkit.annotation.guard import ANYBODY, OWN_HEADER, place_of, read_headers
from prefkit.annotation.passwords import verify_password
from prefkit.annotation.routes import GRADIO_PAGES, Need, need_of
from prefkit.core.errors import PrefkitError
from prefkit.store.accounts import ROLES, Account, Accounts, Limit, Role
from prefkit.store.heads import SigningKey
from prefkit.store.tokens import Tokens, TokenScope

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

KEY_NAME = "session.key"
KEY_VARIABLE = "PREFKIT_SESSION_KEY"
CALLER = "prefkit.caller"  # in the ASGI scope: a Who, once the request has passed Admission
PER_PERSON = Limit(most=5, forget=timedelta(hours=24))
PER_ADDRESS = Limit(most=50, forget=timedelta(hours=1))
_COOKIE = re.compile(r"([0-9a-f]{32})\.([0-9]{1,12})\.([0-9a-f]{64})")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Who:
    """Who a request comes from. scopes: what a token may do; None for a person at a browser.

    until: when a token ends; None for one that stays, and for a person.
    """

    id: str
    name: str
    role: Role
    via: Literal["local", "session", "token"]
    scopes: frozenset[TokenScope] | None = None
    until: datetime | None = None

    def may(self, role: Role) -> bool:
        """Whether this role includes ``role``: each includes the ones before it."""
        return ROLES.index(self.role) >= ROLES.index(role)


class Locked(PrefkitError):
    """Too many failures. seconds: until the next try is looked at."""

    def __init__(self, seconds: int) -> None:
        super().__init__("too many failed log-ins; wait, and then try again")
        self.seconds = seconds


def caller(request: Request) -> Who:
    """The FastAPI dependency that gives a route its caller."""
    return request.scope[CALLER]


def now() -> datetime:
    """This moment, aware."""
    return datetime.now(UTC)


class Sessions:
    """Cookies in, people out, and the way from a password to a cookie.

    local: the one person of an app without accounts; then nothing is asked for.
    """

    def __init__(
        self,
        accounts: Accounts,
        tokens: Tokens,
        key: SigningKey,
        *,
        hours: int,
        cookie: str,
        secure: bool,
        local: Who | None = None,
    ) -> None:
        import anyio

        self.accounts = accounts
        self.cookie = cookie
        self.local = local
        self._tokens = tokens
        self._key = key
        self._lasts = timedelta(hours=hours)
        self._secure = secure
        # Each check takes 19 MiB and a core for 30 ms.
        self._at_once = anyio.CapacityLimiter(2)
        # Not the threads of the routes: those wait for commits.
        self._asking = anyio.CapacityLimiter(16)

    async def who(self, headers: Mapping[str, str]) -> Who | None:
        """The caller of a request with these headers (names in lower case), or None."""
        if self.local is not None:
            return self.local
        given = headers.get("authorization", "")
        if given:
            scheme, _, token = given.partition(" ")
            if scheme.lower() != "bearer":
                return None
            return await self._ask(lambda: self._of_token(token.strip()))
        session = self._session(headers.get("cookie", ""))
        if session is None:
            return None
        account = await self._ask(lambda: self.accounts.of_session(session, now()))
        return None if account is None else Who(account.id, account.name, account.role, "session")

    async def log_in(self, name: str, password: str, address: str) -> Account | None:
        """The account of this name and password, or None. Raises Locked after too many failures.

        address: of the client. Guesses at one name from elsewhere do not lock its owner out.
        """
        from anyio.to_thread import run_sync

        address = place_of(address)
        person = self.digest("person", name, address)
        place = self.digest("address", address)

        def check() -> Account | None:
            until = self.accounts.strike({person: PER_PERSON, place: PER_ADDRESS}, now())
            if until is not None:
                raise Locked(max(1, round((until - now()).total_seconds())))
            account = self.accounts.by_name(name)
            stored = None if account is None else account.password
            if not verify_password(stored, password) or account is None or account.disabled:
                return None
            self.accounts.forgive([person], one_of=[place])
            return account

        return await run_sync(check, limiter=self._at_once)

    async def open(self, account: Account) -> dict[str, Any]:
        """A new session, as the arguments of ``Response.set_cookie``."""
        start = now()
        ends = start + self._lasts
        session = await self.write(lambda: self.accounts.open_session(account.id, start, ends))
        expires = int(ends.timestamp())
        value = f"{session}.{expires}.{self.digest('session', session, str(expires))}"
        return self.cookie_facts(self.cookie, value, int(self._lasts.total_seconds()))

    async def close(self, cookies: str) -> None:
        """End the session of a Cookie header, if it names one."""
        session = self._session(cookies)
        if session is not None:
            await self.write(lambda: self.accounts.end_session(session))

    def cookie_facts(self, name: str, value: str, seconds: int) -> dict[str, Any]:
        """A cookie no script can read, sent to this app only, and not with others' forms."""
        facts = {"httponly": True, "samesite": "lax", "secure": self._secure, "path": "/"}
        return {"key": name, "value": value, "max_age": seconds, **facts}

    def digest(self, *parts: str) -> str:
        """An HMAC-SHA256 of ``parts`` under the app's key, as 64 hexadecimal digits."""
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hmac.new(self._key.secret, text, hashlib.sha256).hexdigest()

    def _session(self, cookies: str) -> str | None:
        """The session of a Cookie header whose signature holds and which has not expired."""
        found = _COOKIE.fullmatch(read_cookie(cookies, self.cookie))
        if found is None:
            return None
        session, expires, signature = found.groups()
        right = self.digest("session", session, expires)
        if not hmac.compare_digest(signature, right) or int(expires) <= now().timestamp():
            return None
        return session

    def _of_token(self, token: str) -> Who | None:
        held = self._tokens.find(token, now())
        if held is None:
            return None
        account = held.account
        return Who(account.id, account.name, account.role, "token", held.scopes, held.until)

    async def _ask(self, question: Callable[[], T]) -> T:
        """A short question to the store; on a file it takes less time than a thread would."""
        return question() if self.accounts.on_file else await self.write(question)

    async def write(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, from a thread that does not belong to the routes."""
        from anyio.to_thread import run_sync

        return await run_sync(work, limiter=self._asking)


class Admission:
    """ASGI middleware behind Guard: who is asking, and whether POLICY lets them."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, 403, 404 or 405, or pass on with the caller in the scope."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            try:
                refusal = await self._refusal(scope)
            except PrefkitError as error:  # the store cannot be asked
                refusal = JSONResponse({"error": error.message, "hint": error.hint}, 503)
            await (refusal or self._app)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        method, path = scope["method"], scope["path"]
        need = need_of(method, path)
        if not isinstance(need, Need):
            return JSONResponse({"error": need[1]}, need[0])
        if need.role is None:
            return None
        headers = read_headers(scope)
        who = await self._sessions.who(headers)
        if who is None:
            if method in ("GET", "HEAD") and path in GRADIO_PAGES:
                return RedirectResponse("/login", 303)
            bearer = {"www-authenticate": "Bearer"}
            return JSONResponse({"error": "log in first"}, 401, headers=bearer)
        if who.scopes is None and headers.get(OWN_HEADER, ANYBODY) not in (ANYBODY, who.id):
            # A page left open, and another log-in beside it: nothing is done in that one's name.
            return JSONResponse({"error": "somebody else is logged in in this browser"}, 401)
        if who.scopes is not None and need.scope not in who.scopes:
            wanted = (
                f"a token with the scope {need.scope}" if need.scope else "a log-in, not a token"
            )
            return JSONResponse({"error": f"this takes {wanted}"}, 403)
        if not who.may(need.role):
            return JSONResponse({"error": f"this is for the role {need.role}"}, 403)
        scope[CALLER] = who
        return None


def read_cookie(cookies: str, name: str) -> str:
    """The value of one cookie of a Cookie header; empty where it is not there.

    Ours hold nothing but letters, digits, dots and dashes, so there is nothing to unquote.
    """
    for piece in cookies.split(";"):
        key, _, value = piece.strip().partition("=")
        if key == name:
            return value
    return ""
