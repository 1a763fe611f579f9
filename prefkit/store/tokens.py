"""Tokens of the REST API: made once, shown once, stored as a digest.

A token is ``pk_ID_SECRET``. It acts for the person who made it, within its scopes, until it
expires, is revoked, or that person's account is disabled or erased.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

import sqlalchemy as sa

from prefkit.store.accounts import ACCOUNT_COLUMNS, Account, account_of
from prefkit.store.database import Database
from prefkit.store.tables import storable, tokens, users

TokenScope = Literal["read", "write", "admin"]
SCOPES: tuple[TokenScope, ...] = get_args(TokenScope)
_TOKEN = re.compile(r"pk_([0-9a-f]{12})_([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """A token without its secret. expires_at: None for one that stays."""

    id: str
    user_id: str
    label: str
    scopes: tuple[TokenScope, ...]
    at: datetime
    expires_at: datetime | None
    ended: bool


@dataclass(frozen=True, slots=True)
class Held:
    """What a token is good for. until: None for one that stays."""

    account: Account
    scopes: frozenset[TokenScope]
    until: datetime | None


class Tokens:
    """The tokens of a store."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def make(
        self,
        user_id: str,
        label: str,
        scopes: Iterable[TokenScope],
        now: datetime,
        expires_at: datetime | None = None,
    ) -> tuple[TokenFacts, str]:
        """A new token, and its text, which is not stored and cannot be shown again."""
        token_id, secret = secrets.token_hex(6), secrets.token_hex(32)
        wanted = set(scopes)
        row = {
            "id": token_id,
            "user_id": user_id,
            "label": storable(label),
            "scopes": ",".join(scope for scope in SCOPES if scope in wanted),
            "at": now,
            "expires_at": expires_at,
            "ended": False,
        }
        stored = {**row, "digest": _digest(secret)}
        self._db.write(lambda connection: connection.execute(sa.insert(tokens), stored))
        return _facts_of(row), f"pk_{token_id}_{secret}"

    def find(self, token: str, now: datetime) -> Held | None:
        """Whom a token acts for and what it may do; None where it does not hold."""
        parts = _TOKEN.fullmatch(token)
        if parts is None:
            return None
        query = (
            sa.select(*ACCOUNT_COLUMNS, tokens.c.digest, tokens.c.scopes, tokens.c.expires_at)
            .join(users, users.c.id == tokens.c.user_id)
            .where(
                tokens.c.id == parts[1],
                tokens.c.ended.is_(False),
                users.c.disabled.is_(False),
                users.c.erased_at.is_(None),
            )
        )
        with self._db.reading() as connection:
            row = connection.execute(query).first()
        if row is None or not hmac.compare_digest(row.digest, _digest(parts[2])):
            return None
        if row.expires_at is not None and row.expires_at <= now:
            return None
        return Held(account_of(row), frozenset(_scopes(row.scopes)), row.expires_at)

    def all(self) -> list[TokenFacts]:
        """Every token, without its secret, the newest first."""
        query = sa.select(tokens).order_by(tokens.c.at.desc(), tokens.c.id)
        with self._db.reading() as connection:
            return [_facts_of(row) for row in connection.execute(query).mappings()]

    def revoke(self, token_id: str) -> bool:
        """Let a token hold no more, at once; whether there was one of that id."""
        ended = sa.update(tokens).where(tokens.c.id == token_id).values(ended=True)
        return self._db.write(lambda connection: connection.execute(ended).rowcount) == 1


def _facts_of(row: Mapping[Any, Any]) -> TokenFacts:
    return TokenFacts(
        id=row["id"],
        user_id=row["user_id"],
        label=row["label"],
        scopes=_scopes(row["scopes"]),
        at=row["at"],
        expires_at=row["expires_at"],
        ended=row["ended"],
    )


def _scopes(text: str) -> tuple[TokenScope, ...]:
    return tuple(scope for scope in SCOPES if scope in text.split(","))


def _digest(secret: str) -> str:
    """SHA-256: 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode("ascii")).hexdigest()
