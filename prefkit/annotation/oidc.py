"""Log-in through an identity provider: OpenID Connect, the authorization code flow with PKCE.

Authlib talks OAuth and checks the claims, joserfc checks the signature. What has to be remembered
while the person is away (state, nonce, verifier) is in a cookie signed by us, for ten minutes.
Nobody is taken for a person who was added by name: two accounts are never joined by what a
provider says of a name or a mail address.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prefkit.annotation.auth import Sessions, now, read_cookie
from prefkit.annotation.settings import OidcSettings
from prefkit.core.errors import ConfigError, EnvironmentFault, PrefkitError, StoreError, require
from prefkit.store.accounts import Account, plain_name
from prefkit.store.tables import storable

# Signed with a key that the provider publishes; HS256 and none are no such thing.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
SECONDS_AWAY = 600
SECONDS_TO_ANSWER = 10
LEEWAY = 60  # seconds that the provider's clock may differ from ours
LONGEST_NAME = 64
_REMEMBERED = re.compile(r"([\w-]{43})\.([\w-]{43})\.([\w-]{64})\.([0-9]{1,12})\.([0-9a-f]{64})")


class LogInRefused(PrefkitError):
    """What came back from the provider is no log-in."""


@dataclass(frozen=True, slots=True)
class _Discovered:
    """What a provider says of itself. algorithms: those of its id tokens that we take."""

    authorize: str
    token: str
    keys: str
    algorithms: tuple[str, ...]


class Provider:
    """An identity provider of the configuration. redirect: our address that it sends people to."""

    def __init__(self, settings: OidcSettings, sessions: Sessions, redirect: str) -> None:
        require("authlib", "oidc")
        require("httpx2", "oidc")
        self._settings = settings
        self._sessions = sessions
        self._redirect = redirect
        self._cookie = f"{sessions.cookie}-oidc"
        self._secret = _secret(settings)
        self._discovered: _Discovered | None = None

    async def begin(self) -> tuple[str, dict[str, Any]]:
        """Where to send the person, and the cookie that remembers the attempt.

        Raises EnvironmentFault where the provider cannot be asked.
        """
        found = await self._discover()
        state, nonce = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        verifier = secrets.token_urlsafe(48)
        async with self._client() as client:
            address, _ = client.create_authorization_url(
                found.authorize, state=state, nonce=nonce, code_verifier=verifier
            )
        text = f"{state}.{nonce}.{verifier}.{int(time.time()) + SECONDS_AWAY}"
        value = f"{text}.{self._sessions.digest('oidc', text)}"
        return address, self._sessions.cookie_facts(self._cookie, value, SECONDS_AWAY)

    async def finish(self, query: Mapping[str, str], cookies: str) -> Account:
        """The account of the person who came back, made if they are new.

        Raises LogInRefused, or EnvironmentFault where the provider cannot be asked.
        """
        state, nonce, verifier = self._remembered(cookies)
        if not hmac.compare_digest(query.get("state", "").encode(), state.encode()):
            raise LogInRefused("this log-in was not begun here; begin again")
        code = query.get("code")
        if not code:
            raise LogInRefused("the identity provider did not log you in")
        claims = await self._claims(code, nonce, verifier)
        return await self._sessions.write(lambda: self._account(claims))

    def forget(self) -> dict[str, Any]:
        """The cookie that ends what is remembered of an attempt."""
        return self._sessions.cookie_facts(self._cookie, "", 0)

    def _remembered(self, cookies: str) -> tuple[str, str, str]:
        found = _REMEMBERED.fullmatch(read_cookie(cookies, self._cookie))
        if found is not None:
            state, nonce, verifier, expires, signature = found.groups()
            right = self._sessions.digest("oidc", f"{state}.{nonce}.{verifier}.{expires}")
            if hmac.compare_digest(signature, right) and int(expires) > time.time():
                return state, nonce, verifier
        raise LogInRefused("this log-in took too long or was not begun in this browser")

    async def _claims(self, code: str, nonce: str, verifier: str) -> dict[str, Any]:
        """The claims of the id token that ``code`` is good for, checked."""
        from authlib.integrations.base_client import OAuthError
        from authlib.oidc.core import CodeIDToken
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet
        from joserfc.jws import JWSRegistry

        found = await self._discover()
        with _answering(self._settings.issuer):
            async with self._client() as client:
                try:
                    token = await client.fetch_token(found.token, code=code, code_verifier=verifier)
                except OAuthError:
                    raise LogInRefused("the identity provider refused the log-in") from None
                published: Any = await _read(client, found.keys)
        options = {
            "iss": {"essential": True, "value": self._settings.issuer},
            "aud": {"essential": True, "value": self._settings.client_id},
        }
        facts = {
            "nonce": nonce,
            "client_id": self._settings.client_id,
            "access_token": token.get("access_token"),
        }
        try:
            signed = jwt.decode(
                str(token.get("id_token", "")),
                KeySet.import_key_set(published),
                registry=JWSRegistry(algorithms=list(found.algorithms), strict_check_header=False),
            )
            claims = CodeIDToken(signed.claims, signed.header, options, facts)
            claims.validate(leeway=LEEWAY)
        except (JoseError, ValueError, TypeError, KeyError):
            raise LogInRefused("the identity provider's answer does not hold") from None
        return dict(claims)

    def _account(self, claims: Mapping[str, Any]) -> Account:
        issuer, subject = self._settings.issuer, storable(str(claims["sub"]))
        mail = str(claims.get("email", "")).strip().lower()
        domains = {domain.lower() for domain in self._settings.domains}
        known = mail.rpartition("@")[2] if claims.get("email_verified") is True else None
        if "*" not in domains and known not in domains:
            raise LogInRefused("your mail address is not one of those that may log in here")
        accounts = self._sessions.accounts
        account = accounts.by_subject(issuer, subject)
        if account is None:
            account = self._add(issuer, subject, mail or str(claims.get("name", "")))
        if account.disabled:
            raise LogInRefused("this account is disabled")
        return account

    def _add(self, issuer: str, subject: str, called: str) -> Account:
        plain = plain_name("".join(c for c in called if c.isprintable())[: LONGEST_NAME - 8])
        accounts = self._sessions.accounts
        for name in (plain or "someone", f"{plain or 'someone'} {secrets.token_hex(3)}"):
            if accounts.by_name(name) is not None:
                continue  # theirs who has it, and their votes with it
            try:
                return accounts.add(
                    name, self._settings.role, now(), issuer=issuer, subject=subject
                )
            except StoreError:
                continue
        raise LogInRefused("no name was free for this account; try again")

    def _client(self) -> Any:
        from authlib.integrations.httpx_client import AsyncOAuth2Client

        return AsyncOAuth2Client(
            client_id=self._settings.client_id,
            client_secret=self._secret,
            # Without a secret there is nothing to authenticate the client with but PKCE.
            token_endpoint_auth_method="client_secret_basic" if self._secret else "none",
            scope="openid email profile",
            redirect_uri=self._redirect,
            code_challenge_method="S256",
            timeout=SECONDS_TO_ANSWER,
            follow_redirects=False,
        )

    async def _discover(self) -> _Discovered:
        """What the provider publishes of itself, asked for once."""
        if self._discovered is not None:
            return self._discovered
        issuer = self._settings.issuer
        with _answering(issuer):
            async with self._client() as client:
                address = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
                said = await _read(client, address)
            theirs = said.get("id_token_signing_alg_values_supported") or ["RS256"]
            found = _Discovered(
                str(said["authorization_endpoint"]),
                str(said["token_endpoint"]),
                str(said["jwks_uri"]),
                tuple(name for name in ALGORITHMS if name in theirs),
            )
            itself = str(said["issuer"])
        if itself != issuer or not found.algorithms:
            raise EnvironmentFault(
                f"{issuer}: it calls itself {itself[:200]!r} and signs with {theirs!r:.200}",
                hint="annotate.oidc.issuer must be written as the provider writes it, and it must "
                "sign with a key that it publishes (RS256)",
            )
        self._discovered = found
        return found


async def _read(client: Any, address: str) -> dict[str, Any]:
    """The JSON object at ``address``. Raises ValueError for anything else."""
    reply = await client.request("GET", address, withhold_token=True)
    reply.raise_for_status()
    said = reply.json()
    if not isinstance(said, dict):
        raise ValueError("no JSON object")
    return said


@contextmanager
def _answering(issuer: str) -> Generator[None]:
    """Within: a provider that does not answer as one becomes an EnvironmentFault."""
    import httpx2

    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError) as error:
        raise EnvironmentFault(
            f"{issuer}: the identity provider does not answer as one ({type(error).__name__})",
            hint="check annotate.oidc.issuer in prefkit.yaml",
        ) from None


def _secret(settings: OidcSettings) -> str | None:
    if settings.client_secret_env is None:
        return None
    found = os.environ.get(settings.client_secret_env)
    if not found:
        raise ConfigError(
            f"annotate.oidc.client_secret_env: ${settings.client_secret_env} is not set",
            hint="set it to the client's secret, or null where the client has none",
        )
    return found
