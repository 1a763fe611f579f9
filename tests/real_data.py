"""The folder of real data sets, where the machine has it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def real_data(name: str) -> Path:
    """The file ``name`` of PREFKIT_REAL_DATA (default ../shared/data); skips where absent."""
    folder = Path(os.environ.get("PREFKIT_REAL_DATA", ROOT.parent / "shared" / "data"))
    path = folder / name
    if not path.is_file():
        pytest.skip(f"no real data at {path} (PREFKIT_REAL_DATA)")
    return path
