"""Components that a machine may lack (Chromium, vLLM, PostgreSQL): skip with one summary line.

With PREFKIT_REQUIRE_ALL=1 a missing component fails the test instead.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

missing: dict[str, str] = {}


def require_component(name: str, reason: str) -> NoReturn:
    """Call where ``name`` was looked for and not found: skips, or fails where all is required."""
    missing[name] = reason
    if os.environ.get("PREFKIT_REQUIRE_ALL") == "1":
        pytest.fail(f"PREFKIT_REQUIRE_ALL=1, and {name} is missing: {reason}", pytrace=False)
    pytest.skip(f"{name} is missing: {reason}")


def summary_line() -> str | None:
    """All missing components of this run in one line, None where nothing was missing."""
    if not missing:
        return None
    parts = ", ".join(f"{name} ({reason})" for name, reason in sorted(missing.items()))
    return f"missing components, their tests were skipped: {parts}"
