"""A port of this machine that nothing listens on."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port that was free a moment ago; what is started at once has it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
