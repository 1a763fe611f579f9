"""A thousand requests that no client of ours would send, over real sockets: 4xx, never 5xx."""

from __future__ import annotations

import json
import random
import socket

import pytest
from app_cases import serving, team_of
from ports import free_port
from store_cases import pairs

from prefkit.annotation.guard import MAX_BODY
from prefkit.annotation.routes import POLICY
from prefkit.store import VoteStore
from prefkit_apps.annotate import build_page

N = 1000
JUNK = ["\0", "\ud800", "\U0001f600", "%", "%00", "%zz", "..", "/", "\\", "'", '"', "<", "\u202e",
        "{", "}", "[", "null", "-1", "1e999", "NaN", "9" * 40, "a" * 3000, " "]  # fmt: skip
FIELDS = ["id", "task_id", "key", "rows", "url", "kinds", "origin", "active_ms", "scopes", "days"]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def place(request, tmp_path):
    """The port of a running app, and how a lead gets in: cookie and bearer."""
    port = free_port()
    kept = tmp_path / "votes.db"
    if request.param == "postgresql":
        kept = request.getfixturevalue("address")
    with VoteStore.open(kept, home=tmp_path) as store:
        store.add(pairs(3))
        team = team_of(store, tmp_path, port)
        lead = team.add("lead", "lead")
        cookie = f"{team.cookie}={team.session(lead)}"
        bearer = f"Bearer {team.token(lead, 'read', 'write', 'admin')}"
        with serving(build_page(team.parts, "x"), port):
            yield port, cookie, bearer
        assert store.votes() == []
        assert store.verify() == []
        assert len(store.comparisons()) == 3


def junk(rng, depth=0):
    """A JSON value."""
    kind = rng.randrange(9 if depth < 3 else 6)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind == 1:
        return rng.choice([0, -1, 1.5, 10**30, -(10**30)])
    if kind < 6:
        return "".join(rng.choices(JUNK, k=rng.randrange(3)))
    if kind == 6:
        return [junk(rng, depth + 1) for _ in range(rng.randrange(4))]
    names = [rng.choice([*FIELDS, rng.choice(JUNK)]) for _ in range(rng.randrange(4))]
    return {name: junk(rng, depth + 1) for name in names}


def junk_body(rng):
    kind = rng.randrange(5)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    if kind == 1:
        return b"[" * 20_000
    text = json.dumps(junk(rng)).encode("utf-8", "surrogatepass")
    if kind == 2:
        cut = rng.randrange(len(text))
        return text[:cut] + rng.randbytes(2) + text[cut:]
    return text


def sane(rng, port, cookie, bearer):
    """Method, path and headers of a request that is in order, but for what is done to it next."""
    method, path = rng.choice(sorted(POLICY))
    who = rng.choice([{"cookie": cookie}, {"authorization": bearer}, {}])
    headers = {"host": f"127.0.0.1:{port}", "x-prefkit": "1", **who}
    return method, path.replace("{", "").replace("}", ""), headers


def wrong_body(rng, *place):
    method, path, headers = sane(rng, *place)
    # Leaving is open to all, and needs no body.
    path = path.replace("/logout", "/login").replace("token_id", rng.choice(["%00", "x", "\xff"]))
    kinds = ["application/json", "text/plain", "application/x-www-form-urlencoded", "\xff", ""]
    headers["content-type"] = rng.choice(kinds)
    return request("PUT" if method == "PUT" else "POST", path, headers, junk_body(rng))


def wrong_path(rng, *place):
    method, _, headers = sane(rng, *place)
    path = "/x" + "".join(rng.choices([*JUNK, "api", "v1", "/", "gradio_api/", "x"], k=6))
    raw = path.encode("utf-8", "surrogatepass").replace(b" ", b"%20")
    return request(method, raw, headers)


def wrong_query(rng, port, _cookie, bearer):
    name, key = rng.choice(
        [("votes", "after"), ("comparisons", "limit"), ("preferences", "method"),
         ("deliveries", "state")]
    )  # fmt: skip
    value = rng.choice(["-1", "x", "1.5e5", "99999999999999999999", "%00", "%ff", "NaN"])
    headers = {"host": f"127.0.0.1:{port}", "authorization": bearer}
    return request("GET", f"/api/v1/{name}?{key}={value}", headers)


def wrong_header(rng, *place):
    """A vote that nobody may cast, with one more thing wrong."""
    _, _, headers = sane(rng, *place)
    change = rng.choice(
        [
            {"host": "evil.example"},
            {"host": ""},
            {"content-length": "-1"},
            {"content-length": "9" * 30},
            {"content-length": "\xb2"},
            {"transfer-encoding": "chunked"},
            {"transfer-encoding": "gzip, x"},
            {"authorization": "Bearer " + "".join(rng.choices(JUNK[5:10], k=4))},
            {"authorization": "Basic Zm9vOmJhcg=="},
            {"x-prefkit\0": "1"},
            {"bad header": "1"},
            {"": "1"},
            {"cookie": "\xff\xfe" * rng.randrange(1, 50)},
            {"expect": "nonsense"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
            {"upgrade": "websocket", "connection": "upgrade"},
            {"x": "y" * 70_000},
        ]
    )
    return request("POST", "/api/v1/votes", {**headers, **change}, b"{}")


def broken(rng, *_place):
    return rng.choice(
        [
            rng.randbytes(rng.randrange(1, 300)) + b"\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(60) + b"\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"G\xc3\x89T / HTTP/1.1\r\n\r\n",
            b"POST /login HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
            b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        ]
    )


def request(method, path, headers, body=b""):
    raw = path if isinstance(path, bytes) else path.encode("latin-1", "replace")
    if method not in ("GET", "DELETE"):
        headers = {"content-length": str(len(body)), **headers}
    lines = [method.encode() + b" " + raw + b" HTTP/1.1"]
    lines += [f"{name}: {value}".encode("latin-1", "replace") for name, value in headers.items()]
    return b"\r\n".join([*lines, b"connection: close", b"", b""]) + body


def test_a_body_that_does_not_come_is_not_waited_for(place, monkeypatch):
    monkeypatch.setattr("prefkit.annotation.guard.BODY_SECONDS", 0.2)
    data = request("POST", "/api/v1/undo", sane(random.Random(1), *place)[2])
    data = data.replace(b"content-length: 0", b"content-length: 9")
    port, cookie, _ = place
    assert answer(port, data.replace(b"\r\n\r\n", f"\r\ncookie: {cookie}\r\n\r\n".encode())) == 408


def test_a_body_larger_than_it_said_is_cut(place):
    port, cookie, _ = place
    headers = {"host": f"127.0.0.1:{port}", "cookie": cookie, "x-prefkit": "1"}
    large = request("POST", "/api/v1/undo", headers, b" " * (MAX_BODY + 1))
    assert answer(port, large) == 413
    chunked = request("POST", "/api/v1/undo", {**headers, "transfer-encoding": "chunked"})
    chunks = b"".join(b"2000\r\n" + b" " * 0x2000 + b"\r\n" for _ in range(20))
    assert answer(port, chunked.replace(b"content-length: 0\r\n", b"") + chunks) == 411


def answer(port, data):
    """The status, or None where the server hung up on what is no HTTP."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        try:
            connection.sendall(data)
            said = connection.recv(64)
        except (ConnectionResetError, BrokenPipeError):
            return None
    if not said:
        return None
    assert said.startswith(b"HTTP/1.1 "), said
    return int(said[9:12])


def test_a_thousand_malformed_requests_get_4xx_and_write_nothing(place):
    rng = random.Random(20261121)
    makers = [wrong_body, wrong_path, wrong_query, wrong_header, broken]
    statuses = {maker.__name__: [] for maker in makers}
    for number in range(N):
        maker = makers[number % len(makers)]
        data = maker(rng, *place)
        status = answer(place[0], data)
        statuses[maker.__name__].append(status)
        assert status is None or 400 <= status < 500, (maker.__name__, status, data[:600])
    hung_up = {name: said.count(None) for name, said in statuses.items()}
    assert hung_up["wrong_body"] == hung_up["wrong_query"] == 0
    assert sum(hung_up.values()) < N / 5, hung_up
    # They did not all end at the first check: bodies and queries were looked at.
    assert {422, 404, 401} <= set(statuses["wrong_body"])
    assert 422 in statuses["wrong_query"]
