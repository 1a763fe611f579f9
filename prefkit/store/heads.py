"""Signed heads: what the chains' ends were at some moment, under a key that is not in the store.

A chain alone shows a change in its middle; whoever writes the whole chain anew, or takes a rater
away whole, is found by the heads, which name each chain's end and are chained themselves. What is
cut off after the last head is not seen.

The key is 32 bytes: PREFKIT_STORE_KEY (64 hexadecimal digits), or ``store.key`` in the workspace,
made when it is first needed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from prefkit.core.errors import EnvironmentFault, from_os_error
from prefkit.core.files import fsync_folder
from prefkit.store import chain
from prefkit.store.tables import heads, raters

KEY_NAME = "store.key"
KEY_VARIABLE = "PREFKIT_STORE_KEY"
_LOCK_KEY = 0x68656164  # "head": one process signs a PostgreSQL store at a time


_making = threading.Lock()


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A secret of 32 bytes."""

    secret: bytes

    @property
    def id(self) -> str:
        """16 digits that name the key and do not give it away."""
        return hashlib.blake2b(self.secret, digest_size=8, person=b"prefkit-key").hexdigest()

    def signature(self, text: str) -> str:
        """HMAC-SHA256 of ``text`` as 64 hexadecimal digits."""
        return hmac.new(self.secret, text.encode("utf-8"), hashlib.sha256).hexdigest()


def find_key(
    home: Path | None, name: str = KEY_NAME, variable: str = KEY_VARIABLE
) -> SigningKey | None:
    """The key of the environment or of the file ``name`` in ``home``; None where there is none.

    Raises EnvironmentFault for one that is no key.
    """
    given = os.environ.get(variable)
    if given is not None:
        return _read(given, variable)
    if home is None or not (home / name).is_file():
        return None
    path = home / name
    try:
        return _read(path.read_text(encoding="ascii"), str(path))
    except UnicodeDecodeError:
        return _read("", str(path))
    except OSError as error:
        raise from_os_error(error, path) or error from error


def find_or_make_key(
    home: Path | None, name: str = KEY_NAME, variable: str = KEY_VARIABLE
) -> SigningKey | None:
    """The key, made in ``home`` if there is none yet; None without a folder to make it in."""
    with _making:
        found = find_key(home, name, variable)
        if found is None and home is not None:
            _make_key(home / name)
            found = find_key(home, name, variable)
    return found


def _make_key(path: Path) -> None:
    home = path.parent
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as handle:
            handle.write(secrets.token_hex(32) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        # A link, not a rename: of two processes that make one, the first has made it for both.
        with suppress(FileExistsError):
            os.link(temporary, path)
        temporary.unlink()
        fsync_folder(home)
    except OSError as error:
        raise from_os_error(error, path) or error from error


def _read(text: str, place: str) -> SigningKey:
    try:
        secret = bytes.fromhex(text.strip())
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise EnvironmentFault(
            f"{place}: not a signing key (64 hexadecimal digits)",
            hint="put the key of this store back; without it the store works, and its heads "
            "are not checked",
        )
    return SigningKey(secret)


def sign(connection: sa.Connection, key: SigningKey, now: datetime) -> int:
    """Write a head that names every chain that has grown since it was last named; how many.

    Chains that another transaction is writing to right now are left to the next head.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    grown = connection.execute(
        sa.select(raters.c.rater, raters.c.n, raters.c.head)
        .where(raters.c.n > raters.c.n_signed)
        .order_by(raters.c.rater)
        .with_for_update(skip_locked=True)
    ).all()
    if not grown:
        return 0
    newest = sa.select(heads.c.hash).order_by(heads.c.seq.desc()).limit(1)
    row: dict[str, Any] = {
        "at": chain.micros(now),
        "chains": chain.compact([[rater, n, head] for rater, n, head in grown]),
        "prev": connection.scalar(newest) or chain.START,
        "key_id": key.id,
    }
    row["hash"] = head_hash(row)
    row["signature"] = key.signature(row["hash"])
    connection.execute(sa.insert(heads), [row])
    connection.execute(
        sa.update(raters)
        .where(raters.c.rater == sa.bindparam("of"))
        .values(n_signed=sa.bindparam("now_signed")),
        [{"of": rater, "now_signed": n} for rater, n, _ in grown],
    )
    return len(grown)


def head_hash(row: Mapping[Any, Any]) -> str:
    """What a head's hash has to be."""
    names = ("at", "chains", "key_id", "prev")
    return chain.digest(chain.compact([chain.RULE, *(row[name] for name in names)]))


@dataclass(slots=True)
class HeadCheck:
    """What the heads say, and how many of their signatures could be checked.

    named: (rater, n) → (row number of the head, hash of that event).
    """

    named: dict[tuple[str, int], tuple[int, str]]
    n_heads: int = 0
    n_checked: int = 0


def check_heads(connection: sa.Connection, key: SigningKey | None, found: list[str]) -> HeadCheck:
    """Look at every head; its faults go to ``found``."""
    checked = HeadCheck({})
    prev = chain.START
    for row in connection.execute(sa.select(heads).order_by(heads.c.seq)).mappings():
        place = f"head {row['seq']}"
        checked.n_heads += 1
        if row["prev"] != prev:
            found.append(f"{place}: a head before it was changed or is gone")
        if row["hash"] != head_hash(row):
            found.append(f"{place}: was changed after it was written")
        if key is not None and row["key_id"] == key.id:
            checked.n_checked += 1
            signature = key.signature(row["hash"]).encode("utf-8")
            if not hmac.compare_digest(row["signature"].encode("utf-8"), signature):
                found.append(f"{place}: its signature is forged")
        prev = row["hash"]
        try:
            ends = json.loads(row["chains"])
            checked.named |= {(str(r), int(n)): (row["seq"], str(end)) for r, n, end in ends}
        except (ValueError, TypeError):
            found.append(f"{place}: its list of chains cannot be read")
    return checked
