"""The labelling app with accounts for tests: people, their cookies and tokens, a real server."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

import prefkit_apps
from prefkit.annotation.app import Parts, build_app
from prefkit.annotation.auth import KEY_NAME, KEY_VARIABLE, Sessions, Who
from prefkit.annotation.passwords import hash_password
from prefkit.annotation.session import Session
from prefkit.annotation.settings import AnnotateSettings
from prefkit.settings import parse_settings
from prefkit.store import VoteStore
from prefkit.store.accounts import Account, Accounts
from prefkit.store.heads import find_or_make_key
from prefkit.store.tokens import Tokens

PORT = 7860
BASE = f"http://127.0.0.1:{PORT}"
OWN = {"x-prefkit": "1"}
PASSWORD = "correct horse battery"
LOGIN_PAGE = (Path(prefkit_apps.__file__).parent / "assets" / "login.html").read_text()


@dataclass
class Team:
    """A store with accounts, and the parts of the app on it."""

    store: VoteStore
    home: Path
    parts: Parts
    accounts: Accounts
    tokens: Tokens

    @property
    def cookie(self) -> str:
        return self.parts.sessions.cookie

    def add(self, name: str, role: str = "rater") -> Account:
        """Somebody with ``PASSWORD``."""
        hashed = _HASHED or _hash()
        return self.accounts.add(name, role, datetime.now(UTC), password=hashed)

    def session(self, account: Account, hours: float = 1) -> str:
        """A cookie as the app would set it."""
        now = datetime.now(UTC)
        ends = now + timedelta(hours=hours)
        session = self.accounts.open_session(account.id, now, ends)
        expires = str(int(ends.timestamp()))
        return f"{session}.{expires}.{self.parts.sessions.digest('session', session, expires)}"

    def token(self, account: Account, *scopes: str, hours: float = 1) -> str:
        """A token that acts for ``account``."""
        now = datetime.now(UTC)
        _, token = self.tokens.make(account.id, "test", scopes, now, now + timedelta(hours=hours))
        return token

    def headers(self, cookie: str) -> dict[str, str]:
        """The headers of a request of the page."""
        return {"cookie": f"{self.cookie}={cookie}", **OWN}

    def client(self, account: Account | None = None) -> TestClient:
        """A browser without scripts, logged in as ``account``; closed by the test's end."""
        headers = {} if account is None else self.headers(self.session(account))
        return TestClient(
            build_app(self.parts),
            base_url=BASE,
            headers=headers,
            raise_server_exceptions=False,
            follow_redirects=False,
        )


_HASHED = ""


def _hash() -> str:
    global _HASHED
    _HASHED = hash_password(PASSWORD)
    return _HASHED


def team_of(
    store: VoteStore, home: Path, port: int = PORT, *, local: str | None = None, **settings: object
) -> Team:
    """The parts of an app on ``store``, put together as prefkit_apps.annotate does.

    local: the name of the one person of an app without accounts.
    """
    key = find_or_make_key(home, KEY_NAME, KEY_VARIABLE)
    assert key is not None
    accounts, tokens = Accounts(store.database), Tokens(store.database)
    annotate = parse_settings(AnnotateSettings, settings)
    secure = (annotate.public_url or "").startswith("https")
    sessions = Sessions(
        accounts,
        tokens,
        key,
        hours=annotate.session_hours,
        cookie="__Host-prefkit" if secure else f"prefkit-{port}",
        secure=secure,
        local=None if local is None else Who(store.rater_id(local), local, "lead", "local"),
    )
    session = Session(store, annotate)
    media = home / annotate.media
    parts = Parts(store, session, sessions, tokens, annotate, port, LOGIN_PAGE, media=media)
    return Team(store, home, parts, accounts, tokens)


@contextmanager
def serving(app: FastAPI, port: int = 0) -> Generator[str]:
    """``app`` on a real socket of this machine; its address."""
    config = uvicorn.Config(app, port=port, log_level="error", proxy_headers=False, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        thread.join(0.01)
    try:
        bound = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{bound}"
    finally:
        server.should_exit = True
        thread.join(10)
