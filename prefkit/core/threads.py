"""How the threads of numeric libraries wait: set before any of them is loaded."""

from __future__ import annotations

import os

# Rounds of libgomp's waiting loop, some tens of microseconds: from one kernel of a model to the
# next, and no longer.
SPINS = "10000"


def wait_without_spinning() -> None:
    """Let idle OpenMP threads sleep after a moment, unless the user has said otherwise.

    Threads that spin wait for one that another process has displaced: beside a busy process,
    sampling on two cores fell from 300 to about 20 tokens a second. Threads that sleep at once
    have to be woken for every kernel: training took a third longer than with a short spin
    (docs/log.md). It must be set before torch is loaded.
    """
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        return
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ["GOMP_SPINCOUNT"] = SPINS
