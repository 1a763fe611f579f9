"""The REST API through its client, over real sockets; its OpenAPI; webhooks that arrive."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from app_cases import OWN, serving, team_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ports import free_port
from slow_server import speaking
from store_cases import pairs, vote

from prefkit.aggregation import aggregate
from prefkit.annotation.app import build_app
from prefkit.annotation.auth import now
from prefkit.annotation.routes import POLICY
from prefkit.annotation.webhooks import Sender
from prefkit.client import ApiError, Client
from prefkit.core.errors import DataError
from prefkit.store import VoteStore
from prefkit.store.leasing import SLICE
from prefkit.store.outbox import MOST_TRIES, Outbox


@pytest.fixture
def team(tmp_path):
    port = free_port()
    with VoteStore.open(tmp_path / "votes.db") as store:
        opened = team_of(store, tmp_path, port)
        opened.add("lead", "lead")
        yield opened


@pytest.fixture
def url(team):
    with serving(build_app(team.parts), team.parts.port) as address:
        yield address


@pytest.fixture
def client(team, url):
    lead = team.accounts.by_name("lead")
    return Client(url, team.token(lead, "read", "write", "admin"))


def test_pairs_go_in_once_and_come_out_in_order(client, team):
    rows = [{"prompt": f"question {n}", "a": "one", "b": "other"} for n in range(5)]
    rows += [{"prompt": "same", "a": "x", "b": "x"}]
    assert client.add(rows, origin="ci") == {
        "n_read": 6,
        "n_added": 5,
        "left_out": {"identical answers": 1},
    }
    assert client.add(rows)["n_added"] == 0
    found = list(client.comparisons())
    assert [row["prompt"][0]["content"] for row in found] == [f"question {n}" for n in range(5)]
    assert {row["origin"] for row in found} == {"ci"}
    assert {found[0]["a"][0]["content"], found[0]["b"][0]["content"]} == {"one", "other"}
    assert client.project()["open"] == 5
    assert [c.id for c in team.store.comparisons()] == [row["id"] for row in found]


def test_more_rows_than_a_request_takes_go_in_batches_and_come_in_pages(client):
    rows = [{"prompt": f"question {n}", "a": "one", "b": "other"} for n in range(2300)]
    assert client.add(rows)["n_added"] == 2300
    assert len({row["id"] for row in client.comparisons()}) == 2300


def test_pairs_that_come_by_rest_are_in_the_random_slice_too(team):
    adaptive = team_of(team.store, team.home, overlap={"most": 5})
    rows = [{"prompt": f"question {n}", "a": "one", "b": "other"} for n in range(60)]
    with adaptive.client(team.accounts.by_name("lead")) as browser:
        assert browser.post("/api/v1/comparisons", json={"rows": rows}).json()["n_added"] == 60
    lanes = [task.lane for task in team.store.tasks()]
    assert 0 < lanes.count(SLICE) < 30


def test_votes_and_preferences_are_those_of_the_store(client, team):
    team.store.add(pairs(3))
    given = [
        vote(c, "kim", "a", strength=2, rationale="said \ud800") for c in team.store.comparisons()
    ]
    team.store.add_votes(given)
    team.store.vote(vote(team.store.comparisons()[0], "kim", "b"))
    found = list(client.votes())
    assert [row["id"] for row in found] == [v.id for v in team.store.votes()]
    assert [row["stands"] for row in found] == [False, True, True, True]
    assert found[0]["rationale"] == "said \ufffd"
    assert list(client.votes(after=found[2]["seq"])) == found[3:]
    believed = aggregate(team.store.comparisons(), team.store.votes())
    said = client.preferences()
    assert [(p["comparison_id"], p["p_a"]) for p in said] == [
        (p.comparison_id, p.p_a) for p in believed
    ]
    assert client.preferences("majority")[0]["method"] == "majority"


def test_what_is_refused_comes_back_with_the_mend(client, team, url):
    with pytest.raises(ApiError, match="nonsense") as error:
        client.preferences("nonsense")
    assert error.value.status == 422
    with pytest.raises(ApiError, match="no prompt with two answers") as error:
        client.add([{"question": "x"}])
    assert (error.value.status, "prompt" in error.value.hint) == (422, True)
    reader = Client(url, team.token(team.accounts.by_name("lead"), "read"))
    with pytest.raises(ApiError, match="scope write") as error:
        reader.add([{"prompt": "x", "a": "1", "b": "2"}])
    assert error.value.status == 403
    with pytest.raises(ApiError, match="log in") as error:
        list(Client(url, "pk_nothing").votes())
    assert error.value.status == 401
    with pytest.raises(ApiError, match="no answer") as error:
        Client("http://127.0.0.1:9", "x", timeout=2).project()
    assert error.value.status is None
    with pytest.raises(DataError):
        Client("file:///etc/passwd", "x")
    assert team.store.comparisons() == []


def test_a_client_follows_no_redirect_with_its_token():
    with receiving([302]) as (elsewhere, got):
        with pytest.raises(ApiError) as error:
            Client(elsewhere, "a secret token").project()
        assert error.value.status == 302
        assert len(got) == 1


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", b"", b"no HTTP"]
)
def test_an_answer_that_is_cut_off_is_said_as_every_other_fault(said):
    with speaking([said]) as address, pytest.raises(ApiError, match="no answer") as error:
        Client(address, "x").project()
    assert error.value.status is None


def test_openapi_names_every_route_for_programs_and_no_other(client, team):
    document = client._call("GET", "openapi.json")
    named = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    programs = {key for key, need in POLICY.items() if need.scope is not None}
    assert named == programs - {("GET", "/api/v1/openapi.json")}
    assert document["openapi"].startswith("3.")


def test_a_lead_makes_a_token_that_is_shown_once_and_holds_until_it_is_revoked(client, team, url):
    lead = team.accounts.by_name("lead")
    wanted = {"label": "nightly \0", "scopes": ["write", "read"], "days": 7}
    with team.client(lead) as browser:
        browser.base_url = url
        made = browser.post("/api/v1/tokens", json=wanted).json()
    assert (made["label"], made["scopes"]) == ("nightly \ufffd", ["read", "write"])
    assert made["user_id"] == lead.id
    held = team.tokens.find(made["token"], now())
    assert timedelta(days=6) < held.until - now() < timedelta(days=7, seconds=1)
    secret = made["token"].rpartition("_")[2]
    assert secret not in json.dumps(client._call("GET", "tokens"))
    for file in team.home.glob("votes.db*"):
        assert secret.encode() not in file.read_bytes()
    theirs = Client(url, made["token"])
    assert theirs.add([{"prompt": "x", "a": "1", "b": "2"}])["n_added"] == 1
    with pytest.raises(ApiError, match="scope admin"):
        theirs._call("GET", "tokens")
    client._call("DELETE", f"tokens/{made['id']}")
    with pytest.raises(ApiError, match="log in"):
        theirs.project()


def test_a_token_makes_none_that_may_more_or_holds_longer_than_itself(team, url):
    lead = team.accounts.by_name("lead")
    admin = Client(url, team.token(lead, "admin", "read", hours=2))
    for scopes in (["write"], ["read", "write", "admin"]):
        with pytest.raises(ApiError, match="more than itself") as error:
            admin._call("POST", "tokens", {"scopes": scopes})
        assert error.value.status == 403
    made = admin._call("POST", "tokens", {"scopes": ["read"], "days": 3650})
    assert team.tokens.find(made["token"], now() + timedelta(minutes=119)) is not None
    assert team.tokens.find(made["token"], now() + timedelta(minutes=121)) is None
    for body in ({}, {"scopes": []}, {"scopes": ["all"]}, {"scopes": ["read"], "days": 0}):
        with pytest.raises(ApiError) as error:
            admin._call("POST", "tokens", body)
        assert error.value.status == 422
    assert len(team.tokens.all()) == 2


def test_without_accounts_no_token_is_made(team):
    team.store.add(pairs(1))
    alone = team_of(team.store, team.home, local="kim")
    with alone.client() as browser:
        said = browser.post("/api/v1/tokens", json={"scopes": ["admin"]}, headers=OWN)
    assert said.status_code == 409
    assert alone.tokens.all() == []


@contextmanager
def receiving(statuses):
    """A server of another program that answers with ``statuses``, then 200; what it got."""
    got = []
    left = list(statuses)

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            got.append((self.path, dict(self.headers), body))
            self.send_response(left.pop(0) if left else 200)
            self.send_header("location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_vote_is_told_to_a_webhook_signed_and_again_until_it_arrives(client, team):
    team.store.add(pairs(2))
    outbox = Outbox(team.store.database)
    sender = Sender(outbox, private=True)
    with receiving([500, 302]) as (address, got):
        hook = client.add_hook(f"{address}/votes?x=1", ["vote"])
        given = vote(team.store.comparisons()[0], "kim", "a", rationale="a private thought")
        team.store.vote(given)
        moment = now()
        assert sender.send_due(moment) == 0
        assert sender.send_due(moment + timedelta(seconds=9)) == 0
        assert len(got) == 1
        assert sender.send_due(moment + timedelta(seconds=10)) == 0
        assert sender.send_due(moment + timedelta(seconds=29)) == 0
        assert sender.send_due(moment + timedelta(seconds=31)) == 1
        assert sender.send_due(moment + timedelta(days=1)) == 0
    assert [path for path, _, _ in got] == ["/votes?x=1"] * 3
    assert len({headers["x-prefkit-delivery"] for _, headers, _ in got}) == 1
    _, headers, body = got[-1]
    right = hmac.new(hook["secret"].encode(), body, hashlib.sha256).hexdigest()
    assert headers["x-prefkit-signature"] == f"sha256={right}"
    told = json.loads(body)
    assert (told["kind"], told["id"], told["payload"]["choice"]) == ("vote", given.id, "a")
    assert "private thought" not in body.decode()
    assert outbox.deliveries("sent")[0]["tries"] == 3


def test_a_delivery_is_given_up_after_twelve_tries_and_shown(client, team):
    team.store.add(pairs(1))
    client.add_hook("http://127.0.0.1:9/", ["vote", "undo"])
    team.store.vote(vote(team.store.comparisons()[0]))
    outbox, moment = Outbox(team.store.database), now()
    for _ in range(MOST_TRIES):
        (delivery,) = outbox.claim(moment)
        assert outbox.claim(moment) == []  # held by the one who claimed it
        outbox.settle(delivery, moment, "ConnectionRefusedError")
        moment += timedelta(hours=7)
    assert outbox.claim(moment) == []
    (dead,) = client._call("GET", "deliveries")["rows"]
    assert (dead["tries"], dead["said"]) == (MOST_TRIES, "ConnectionRefusedError")


def test_what_a_killed_process_had_claimed_is_sent_by_another(team):
    team.store.add(pairs(1))
    outbox, moment = Outbox(team.store.database), now()
    outbox.add_hook("http://127.0.0.1:9/", ["vote"], moment)
    team.store.vote(vote(team.store.comparisons()[0]))
    moment = now()
    assert len(outbox.claim(moment)) == 1
    assert outbox.claim(moment + timedelta(seconds=59)) == []
    assert len(outbox.claim(moment + timedelta(seconds=60))) == 1


def test_a_hook_that_was_ended_gets_nothing_more(client, team):
    team.store.add(pairs(2))
    hook = client.add_hook("http://127.0.0.1:9/", ["vote"])
    team.store.vote(vote(team.store.comparisons()[0]))
    client.end_hook(hook["id"])
    team.store.vote(vote(team.store.comparisons()[1]))
    assert Outbox(team.store.database).claim(now()) == []
    with pytest.raises(ApiError, match="no webhook"):
        client.end_hook(hook["id"])
    assert client._call("GET", "hooks") == {"rows": []}


@pytest.mark.parametrize(
    "address",
    ["ftp://example.org/", "http://", "example.org", "http://a b/", "http://u:p@example.org/",
     "http://example.org/#x", "http://example.org:99999/", "http://exa\nmple.org/",
     "http://[::1/", "javascript:alert(1)"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(client, address):
    with pytest.raises(ApiError) as error:
        client.add_hook(address, ["vote"])
    assert error.value.status == 422
    with pytest.raises(ApiError, match="served"):
        client.add_hook("http://example.org/", ["served"])


def test_the_thread_of_the_app_sends_by_itself(client, team):
    team.store.add(pairs(1))
    sender = Sender(Outbox(team.store.database), private=True)
    with receiving([]) as (address, got):
        client.add_hook(address, ["vote"])
        with sender:
            team.store.vote(vote(team.store.comparisons()[0]))
            for _ in range(100):
                if got:
                    break
                threading.Event().wait(0.1)
    assert len(got) == 1


JUNK = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
MESSAGE = st.fixed_dictionaries({"role": JUNK | st.just("user"), "content": JUNK})
CELL = JUNK | st.lists(MESSAGE, max_size=3)
COLUMNS = st.sampled_from(
    ["prompt", "a", "b", "chosen", "rejected", "messages", "model_a", "tags", "id", "tools"]
)
BATCH = st.fixed_dictionaries(
    {"rows": st.lists(st.dictionaries(COLUMNS, CELL, max_size=5), max_size=3)},
    optional={"origin": st.text(max_size=5) | JUNK},
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BATCH)
def test_no_batch_makes_a_5xx(browser, body):
    reply = browser.post(
        "/api/v1/comparisons",
        content=json.dumps(body),
        headers={"content-type": "application/json"},
    )
    assert reply.status_code in (200, 422), reply.text
    if reply.status_code == 200:
        said = reply.json()
        assert said["n_read"] >= said["n_added"] + sum(said["left_out"].values())
        for name in ("comparisons", "project"):
            assert browser.get(f"/api/v1/{name}").status_code == 200


@pytest.fixture
def browser(team):
    with team.client(team.accounts.by_name("lead")) as opened:
        opened.base_url = f"http://127.0.0.1:{team.parts.port}"
        yield opened
