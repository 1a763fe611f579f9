"""Passwords as argon2id texts, and how long checking one may take.

RFC 9106 and OWASP: argon2id with 19 MiB, two passes, one lane. One check takes about 30 ms of a
core and 19 MiB, so at most two run at a time (annotation/auth.py).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from prefkit.core.errors import DataError, require

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST = 10
LONGEST = 200
MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1


def hash_password(password: str) -> str:
    """The argon2id text of ``password``. Raises DataError for one too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise DataError(
            f"a password has {SHORTEST} to {LONGEST} characters; this one has {len(password)}",
            hint="a few words in a row are long and easy to type",
        )
    return _hasher().hash(_bytes(password))


def verify_password(stored: str | None, password: str) -> bool:
    """Whether ``password`` is the one of ``stored``.

    For None (nobody of that name, or one without a password) the same work is done and False
    comes back: the time taken tells nothing of who there is.
    """
    from argon2.exceptions import InvalidHashError, VerificationError

    if len(password) > LONGEST:
        return False
    try:
        right = _hasher().verify(stored or _nobody(), _bytes(password))
    except (VerificationError, InvalidHashError):
        return False
    return right and stored is not None


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")


@cache
def _hasher() -> PasswordHasher:
    argon2 = require("argon2", "app")
    return argon2.PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)


@cache
def _nobody() -> str:
    return _hasher().hash(b"nobody's password")
