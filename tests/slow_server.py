"""A server of tests that says whatever it is given, as slowly as it is told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress


@contextmanager
def speaking(pieces: Sequence[bytes], seconds: float = 0.0) -> Generator[str]:
    """A server that says these pieces of an answer to one request, with a pause before each."""
    hung_up = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            with listener.accept()[0] as connection, suppress(OSError):
                connection.recv(65536)
                for piece in pieces:
                    if hung_up.wait(seconds):
                        return
                    connection.sendall(piece)

        thread = threading.Thread(target=speak)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            hung_up.set()
            thread.join()
