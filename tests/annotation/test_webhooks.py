"""Where webhooks are sent to, and how long an answer is waited for."""

from __future__ import annotations

import time

import pytest
from slow_server import speaking

from prefkit.annotation.webhooks import post
from prefkit.store.outbox import Delivery


@pytest.mark.parametrize(
    "place",
    ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "0.0.0.0", "192.168.0.1",
     "[::ffff:127.0.0.1]", "[::ffff:100.64.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
     "2130706433", "0x7f.1"],
)  # fmt: skip
def test_private_addresses_are_not_sent_to(place):
    delivery = Delivery(1, f"http://{place}:9/", "secret", "{}", 0)
    assert "private address" in post(delivery, private=False)


def test_a_receiver_that_answers_drop_by_drop_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("prefkit.annotation.webhooks.SECONDS_TO_ANSWER", 1)
    drops = [b"HTTP/1.1 200 OK\r\n", *[b"x: y\r\n"] * 30, b"content-length: 0\r\n\r\n"]
    with speaking(drops, 0.2) as address:
        start = time.monotonic()
        fault = post(Delivery(1, address, "secret", "{}", 0), private=True)
        took = time.monotonic() - start
    assert fault is not None
    assert took < 4  # of the six seconds that all of it takes
