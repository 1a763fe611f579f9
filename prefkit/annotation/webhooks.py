"""Sending what is in the outbox: one POST a delivery, signed, tried again until it arrives.

    POST URL
    content-type: application/json
    x-prefkit-delivery: ID                    the same at each try
    x-prefkit-signature: sha256=HMAC          HMAC-SHA256 of the body under the hook's secret

Any 2xx is an arrival; redirects are not followed. The name in the address is looked up once and
that address is connected to, so that a name cannot be looked up as harmless and then lead into
the machine's own network: private addresses are refused unless the configuration allows them.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from prefkit.annotation.auth import now
from prefkit.core.errors import PrefkitError
from prefkit.store.outbox import Delivery, Outbox

SECONDS_TO_ANSWER = 5  # for the whole of an answer, once connected
SECONDS_BETWEEN = 2
AT_ONCE = 4
_TRANSLATED = ip_network("64:ff9b::/96")  # an address of IPv4 through a NAT64 (RFC 6052)
_log = logging.getLogger(__name__)


class Sender:
    """The thread that empties the outbox; several processes may each have one."""

    def __init__(self, outbox: Outbox, *, private: bool) -> None:
        self._outbox = outbox
        self._private = private
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Sender:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let what is under way end, and wait for it: ten seconds at the most."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(2 * SECONDS_TO_ANSWER)

    def send_due(self, moment: datetime) -> int:
        """Send all that is due; how many arrived."""
        due = self._outbox.claim(moment)
        if not due:
            return 0
        with ThreadPoolExecutor(min(AT_ONCE, len(due)), thread_name_prefix="webhook") as threads:
            return sum(threads.map(lambda delivery: self._send(delivery, moment), due))

    def _send(self, delivery: Delivery, moment: datetime) -> bool:
        fault = post(delivery, private=self._private)
        self._outbox.settle(delivery, moment, fault)
        return fault is None

    def _run(self) -> None:
        while not self._stopping.wait(SECONDS_BETWEEN):
            try:
                while self.send_due(now()) and not self._stopping.is_set():
                    pass
            except PrefkitError as error:  # the store cannot be asked now; the rows stay in it
                _log.warning("webhooks were not sent: %s", error)


def post(delivery: Delivery, *, private: bool) -> str | None:
    """Send one delivery; None if it arrived, else what was wrong."""
    parts = urlsplit(delivery.url)
    body = delivery.body.encode("ascii")
    signature = hmac.new(delivery.secret.encode("ascii"), body, hashlib.sha256).hexdigest()
    headers = {
        "content-type": "application/json",
        "user-agent": "prefkit",
        "x-prefkit-delivery": str(delivery.seq),
        "x-prefkit-signature": f"sha256={signature}",
    }
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    try:
        connection = _connection(parts, private=private)
        try:
            connection.connect()
            with _hung_up_after(connection.sock, SECONDS_TO_ANSWER):
                connection.request("POST", target, body, headers)
                status = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        return f"{type(error).__name__}: {error}"
    return None if 200 <= status < 300 else f"answered {status}"


@contextmanager
def _hung_up_after(connected: socket.socket, seconds: float) -> Generator[None]:
    """Within: the connection ends after ``seconds``, however slowly something still comes.

    Raises TimeoutError then: to who reads it, a head that was cut off looks like a whole one.
    """
    is_over = threading.Event()

    def hang_up() -> None:
        is_over.set()
        with suppress(OSError):  # the other side was faster
            socket.socket.shutdown(connected, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if is_over.is_set():
        raise TimeoutError(f"no whole answer in {seconds} s")


def _is_public(address: str) -> bool:
    """Whether an address is one of the whole internet; an IPv4 one in IPv6's clothes is itself."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        if found in _TRANSLATED:
            found = IPv4Address(int(found) & 0xFFFFFFFF)
        else:
            found = found.ipv4_mapped or found.sixtofour or found
    return found.is_global


def _connection(parts: SplitResult, *, private: bool) -> http.client.HTTPConnection:
    """A connection to the first address of the host, which is looked up here and not again."""
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    address = str(found[4][0])
    if not private and not _is_public(address):
        raise ConnectionError(f"{host} is {address}, a private address (annotate.webhooks_private)")
    timeout = SECONDS_TO_ANSWER

    def connect(_place: object, *_: object) -> socket.socket:
        return socket.create_connection((address, port), timeout)

    if secure:
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    replace: Callable[..., socket.socket] = connect
    connection._create_connection = replace  # type: ignore[attr-defined]
    return connection
