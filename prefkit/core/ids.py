"""Content ids: 128 bits of BLAKE2b over canonical JSON, as 32 hexadecimal digits."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, no NaN, no escapes for non-ASCII text."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def content_id(value: Any) -> str:
    """32 hexadecimal digits that depend on nothing but ``value``.

    Lone surrogates (seen in scraped text) are kept apart rather than refused.
    """
    data = canonical_json(value).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).hexdigest()
