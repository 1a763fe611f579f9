"""How the threads of numeric libraries wait: set before any of them is loaded."""

from __future__ import annotations

import os


def wait_without_spinning() -> None:
    """Let idle OpenMP threads sleep instead of spin, unless the user has said otherwise.

    Spinning threads wait for one that another process has displaced: beside a busy process,
    sampling on two cores fell from 300 to about 20 tokens a second, and the same job with
    sleeping threads took its usual time (2026-11-21). It must be set before torch is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
