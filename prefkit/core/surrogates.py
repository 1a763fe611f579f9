"""Text that UTF-8 takes: half of a surrogate pair, which scraped text has, becomes U+FFFD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast


def encodable_text(text: str) -> str:
    """``text`` with U+FFFD for every lone surrogate."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def encodable(value: Any) -> Any:
    """A JSON value with all its texts as ``encodable_text`` gives them, names too."""
    if isinstance(value, str):
        return encodable_text(value)
    if isinstance(value, list):
        return [encodable(item) for item in cast(list[Any], value)]
    if isinstance(value, Mapping):
        items = cast(Mapping[Any, Any], value).items()
        return {encodable(name): encodable(item) for name, item in items}
    return value
