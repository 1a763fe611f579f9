"""An identity provider on this machine: OpenID Connect as far as a log-in needs it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse
from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "prefkit", "the client's secret"


@dataclass
class Idp:
    """What it says of who logs in.

    claims: in the place of its own; None leaves a claim out. writes: makes the id token of claims.
    """

    issuer: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    writes: Callable[[dict[str, Any]], str] | None = None
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def app(self) -> FastAPI:
        """Its routes."""
        app = FastAPI()

        @app.get("/.well-known/openid-configuration")
        def configuration() -> dict[str, Any]:
            self.asked.append("configuration")
            return {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
            }

        @app.get("/authorize")
        def authorize(request: Request) -> RedirectResponse:
            asked = dict(request.query_params)
            assert asked["code_challenge_method"] == "S256"
            assert asked["response_type"] == "code"
            assert "openid" in asked["scope"].split()
            code = secrets.token_urlsafe(16)
            self.codes[code] = asked
            back = urlencode({"code": code, "state": asked["state"]})
            return RedirectResponse(f"{asked['redirect_uri']}?{back}", 303)

        @app.post("/token")
        async def token(request: Request) -> JSONResponse:
            form = {k: v[0] for k, v in parse_qs((await request.body()).decode()).items()}
            basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
            asked = self.codes.pop(form.get("code", ""), None)
            digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            challenge = _base64(digest)
            if (
                asked is None
                or request.headers.get("authorization") != f"Basic {basic}"
                or challenge != asked["code_challenge"]
                or form.get("redirect_uri") != asked["redirect_uri"]
            ):
                return JSONResponse({"error": "invalid_grant"}, 400)
            facts = {"token_type": "Bearer", "access_token": "x", "expires_in": 60}
            return JSONResponse({**facts, "id_token": self.id_token(asked["nonce"])})

        @app.get("/keys")
        def keys() -> dict[str, Any]:
            return {"keys": [self.key.as_dict(private=False)]}

        return app

    def id_token(self, nonce: str) -> str:
        """The signed claims."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "sub": "subject-1", "exp": now + 60,
                  "iat": now, "nonce": nonce, "email": "Kim@Example.org",
                  "email_verified": True} | self.claims  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        return (self.writes or signed_by(self.key))(claims)


def signed_by(key: RSAKey) -> Callable[[dict[str, Any]], str]:
    """A token signed by ``key``, under the name of the key that the provider publishes."""
    header = {"alg": "RS256", "kid": "one"}
    return lambda claims: jwt.encode(header, claims, key, algorithms=["RS256"])


def with_algorithm(algorithm: str, secret: bytes) -> Callable[[dict[str, Any]], str]:
    """A token under HS256 with a secret that is none, or under no signature at all."""

    def forge(claims: dict[str, Any]) -> str:
        parts = [json.dumps({"alg": algorithm, "kid": "one"}), json.dumps(claims)]
        text = ".".join(_base64(part.encode()) for part in parts)
        signature = hmac.new(secret, text.encode(), hashlib.sha256).digest()
        return f"{text}.{_base64(signature) if algorithm == 'HS256' else ''}"

    return forge


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
