"""The HTTP API: what it answers, and that bad input is refused with 4xx and writes nothing."""

from __future__ import annotations

import json
import uuid

import pytest
from app_cases import OWN, team_of
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lease_cases import plan
from store_cases import pairs

from prefkit.annotation.app import build_app
from prefkit.annotation.guard import MAX_BODY
from prefkit.annotation.settings import AnnotateSettings
from prefkit.settings import parse_settings
from prefkit.store import VoteStore

SETTINGS = parse_settings(AnnotateSettings, {})


@pytest.fixture
def store(tmp_path):
    with VoteStore.open(tmp_path / "votes.db") as opened:
        opened.add(pairs(4))
        yield opened


@pytest.fixture
def client(store, tmp_path):
    with team_of(store, tmp_path, local="kim").client() as opened:
        yield opened


def body(token, **values):
    return {"id": str(uuid.uuid4()), "token": token, "key": "1", "active_ms": 5, **values}


def first_pair(client):
    return client.get("/api/v1/next").json()["pairs"][0]


def test_next_vote_undo_and_progress(client, store):
    first = client.get("/api/v1/next").json()
    assert first["progress"] == {"done": 0, "skipped": 0, "left": 4}
    assert (first["state"], len(first["pairs"]), first["retry_s"]) == ("ready", 2, None)
    shown, after = first["pairs"]
    sent = body(shown["token"], have=[after["token"]])
    voted = client.post("/api/v1/votes", json=sent, headers=OWN).json()
    assert (voted["saved"]["strength"], voted["saved"]["late"]) == (3, False)
    assert voted["progress"]["done"] == 1
    assert not {p["task_id"] for p in voted["pairs"]} & {shown["task_id"], after["task_id"]}
    undone = client.post("/api/v1/undo", json={"id": str(uuid.uuid4())}, headers=OWN).json()
    assert undone["undone"] is True
    assert undone["pairs"][0]["left"] == shown["left"]
    assert undone["pairs"][0]["token"] != shown["token"]
    assert client.get("/api/v1/progress").json() == first["progress"]
    again = client.post("/api/v1/undo", json={"id": str(uuid.uuid4())}, headers=OWN).json()
    assert again["undone"] is False
    assert [v.choice for v in store.votes()][-1] == "withdrawn"


def test_the_same_vote_sent_twice_is_stored_once(client, store):
    sent = body(first_pair(client)["token"])
    replies = [client.post("/api/v1/votes", json=sent, headers=OWN) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200] * 3
    assert len({json.dumps(reply.json()["saved"]) for reply in replies}) == 1
    assert len({json.dumps([p["token"] for p in r.json()["pairs"]]) for r in replies}) == 1
    assert len(store.votes()) == 1


def test_when_all_is_done_there_is_no_pair(client):
    while shown := client.get("/api/v1/next").json()["pairs"]:
        client.post("/api/v1/votes", json=body(shown[0]["token"]), headers=OWN)
    assert client.get("/api/v1/next").json()["state"] == "done"
    assert client.get("/api/v1/progress").json() == {"done": 4, "skipped": 0, "left": 0}


def test_a_spent_token_is_409_with_what_to_show_now(client, store):
    shown = first_pair(client)
    client.post("/api/v1/votes", json=body(shown["token"]), headers=OWN)
    reply = client.post("/api/v1/votes", json=body(shown["token"], key="7"), headers=OWN)
    assert reply.status_code == 409
    assert (reply.json()["state"], len(reply.json()["pairs"])) == ("ready", 2)
    assert len(store.votes()) == 1


def test_all_that_a_vote_can_say_is_stored(client, store):
    sent = body(
        first_pair(client)["token"],
        confidence=0.75,
        aspects={"style": "left"},
        rationale="clear \ud83d",
        edit="better",
        painted_ms=12,
        next_ms=34,
    )
    headers = {**OWN, "content-type": "application/json"}
    assert client.post("/api/v1/votes", content=json.dumps(sent), headers=headers).status_code in (
        200, 422,
    )  # fmt: skip
    sent["rationale"] = "clear"
    sent["token"] = first_pair(client)["token"]
    sent["id"] = str(uuid.uuid4())
    assert client.post("/api/v1/votes", json=sent, headers=OWN).status_code == 200
    vote = store.votes()[-1]
    assert (vote.confidence, vote.rationale, vote.edit) == (0.75, "clear", "better")
    assert vote.aspects == {"style": vote.shown_first}


def test_history_gives_the_pair_again_and_a_revision_replaces(client, store):
    shown = first_pair(client)
    more = {"rationale": "clear", "aspects": {"style": "left"}}
    client.post("/api/v1/votes", json=body(shown["token"], **more), headers=OWN)
    (entry,) = client.get("/api/v1/history").json()["votes"]
    assert (entry["key"], entry["task_id"]) == ("1", shown["task_id"])
    assert client.get("/api/v1/history", params={"before": entry["before"]}).json() == {"votes": []}
    pair = client.get(f"/api/v1/history/{entry['id']}").json()
    assert (pair["said"]["rationale"], pair["said"]["aspects"]) == ("clear", {"style": "left"})
    assert (pair["again"], pair["key"], pair["left"]) == (entry["id"], "1", shown["left"])
    sent = body(pair["token"], key="6", replaces=entry["id"])
    saved = client.post("/api/v1/votes", json=sent, headers=OWN).json()["saved"]
    assert (saved["key"], store.counts().standing) == ("6", 1)
    assert client.get(f"/api/v1/history/{entry['id']}").status_code == 404
    assert client.get(f"/api/v1/history/{uuid.uuid4()}").status_code == 404


def test_flags_heartbeats_and_guidelines_seen(client, store):
    pair = first_pair(client)
    flag = {"id": str(uuid.uuid4()), "task_id": pair["task_id"], "on": True, "note": "broken"}
    assert client.post("/api/v1/flags", json=flag, headers=OWN).json() == {"on": True}
    unseen = {**flag, "id": str(uuid.uuid4()), "task_id": "f" * 32}
    assert client.post("/api/v1/flags", json=unseen, headers=OWN).status_code == 404
    beat = {"tokens": [pair["token"], str(uuid.uuid4())], "hidden": True}
    assert client.post("/api/v1/heartbeat", json=beat, headers=OWN).json() == {"held": 1}
    assert 100 < first_pair(client)["expires_s"] <= 600
    seen = {"id": str(uuid.uuid4()), "version": SETTINGS.guideline_version}
    for new in (True, False):
        reply = client.post("/api/v1/guidelines/seen", json=seen, headers=OWN)
        assert reply.json() == {"new": new}
    assert store.verify() == []


def test_old_guidelines_can_be_read_and_unknown_ones_are_404(client, store):
    store.set_guidelines("abc", "What was *said*")
    assert "<em>said</em>" in client.get("/api/v1/guidelines?version=abc").json()["html"]
    assert client.get("/api/v1/guidelines?version=abcd").status_code == 404


def test_a_vote_records_the_guidelines_that_its_page_showed(client, store):
    store.set_guidelines("abc", "What was *said*")
    told = client.get("/api/v1/next").json()["guidelines"]
    assert told == SETTINGS.guideline_version
    for version, recorded in (("abc", "abc"), (told, told), (None, told)):
        sent = body(first_pair(client)["token"], guidelines=version)
        reply = client.post("/api/v1/votes", json=sent, headers=OWN)
        assert (reply.status_code, reply.json()["guidelines"]) == (200, told)
        assert store.votes()[-1].guideline_version == recorded
    sent = body(first_pair(client)["token"], guidelines="abcd")
    assert client.post("/api/v1/votes", json=sent, headers=OWN).status_code == 422
    assert len(store.votes()) == 3


def test_the_longest_words_of_a_vote_fit_in_any_script(client, store):
    held = [str(uuid.uuid4()) for _ in range(300)]
    sent = body(
        first_pair(client)["token"], rationale="因" * 4000, edit="好" * 32_000, have=held,
        aspects={"面" * 64: "left"},
    )  # fmt: skip
    text = json.dumps(sent, ensure_ascii=False).encode()
    headers = {**OWN, "content-type": "application/json"}
    assert client.post("/api/v1/votes", content=text, headers=headers).status_code == 200
    assert len(store.votes()[-1].edit) == 32_000


def test_guidelines_are_drawn(client):
    assert "<li>" in client.get("/api/v1/guidelines").json()["html"]


def test_every_response_carries_the_policy(client):
    for reply in (
        client.get("/api/v1/next"),
        client.get("/nothing"),
        client.get("/api/v1/next", headers={"host": "evil.example"}),
    ):
        policy = reply.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
    assert client.get("/api/v1/next").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example:7860"}, 421),
        ({"host": "127.0.0.1:9999"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"x-prefkit": None}, 403),
    ],
)
def test_requests_from_elsewhere_cannot_vote(client, store, headers, status):
    sent = body(first_pair(client)["token"])
    request = client.build_request(
        "POST",
        "/api/v1/votes",
        json=sent,
        headers={**OWN, **{k: v for k, v in headers.items() if v}},
    )
    for name, value in headers.items():
        if value is None:
            del request.headers[name]
    assert client.send(request).status_code == status
    assert store.votes() == []


def test_names_of_this_machine_are_served(client):
    for host in ("127.0.0.1:7860", "localhost:7860"):
        assert client.get("/api/v1/progress", headers={"host": host}).status_code == 200


def test_an_address_in_capitals_or_with_its_usual_port_is_the_one_browsers_send(store, tmp_path):
    for written in ("https://Label.Example.org", "https://label.example.org:443/"):
        team = team_of(store, tmp_path, local="kim", public_url=written)
        host = {"host": "label.example.org", "origin": "https://label.example.org"}
        with team.client() as opened:
            reply = opened.post("/api/v1/undo", json={"id": str(uuid.uuid4())}, headers=OWN | host)
            assert reply.status_code == 200


def test_on_the_default_port_browsers_name_none(store, tmp_path):
    app = build_app(team_of(store, tmp_path, 80, local="kim").parts)
    with TestClient(app, base_url="http://127.0.0.1") as opened:
        assert opened.get("/api/v1/progress").status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"key": "8"},
        {"key": "0"},
        {"key": 1},
        {"key": None},
        {"id": "not-a-uuid"},
        {"id": 7},
        {"token": "../x"},
        {"token": "a\n"},
        {"token": "\ud800"},
        {"token": ""},
        {"confidence": 2},
        {"confidence": float("nan")},
        {"aspects": {"style": "a"}},
        {"aspects": {str(n): "tie" for n in range(17)}},
        {"rationale": "x" * 4001},
        {"replaces": "x"},
        {"have": ["x"]},
        {"task_id": "0" * 32},
        {"active_ms": -1},
        {"active_ms": 1.5},
        {"active_ms": "5"},
        {"active_ms": True},
        {"active_ms": float("nan")},
        {"active_ms": 10**30},
        {"choice": "a"},
        {"\ud800": 1},
        {"shown_first": "a"},
    ],
)
def test_a_field_that_is_wrong_is_422_and_writes_nothing(client, store, change):
    sent = body(first_pair(client)["token"]) | change
    headers = {**OWN, "content-type": "application/json"}
    reply = client.post("/api/v1/votes", content=json.dumps(sent), headers=headers)
    assert reply.status_code == 422
    assert reply.json()["error"]
    assert store.votes() == []


def test_a_token_that_was_never_given_is_404(client, store):
    lees = store.leases().next("lee", plan()).result(30).held[0].token
    for token in (str(uuid.uuid4()), lees):
        assert client.post("/api/v1/votes", json=body(token), headers=OWN).status_code == 404
    assert store.votes() == []


def test_the_id_of_another_vote_is_409(client, store):
    first = body(first_pair(client)["token"])
    reply = client.post("/api/v1/votes", json=first, headers=OWN).json()
    taken = body(reply["pairs"][0]["token"], id=first["id"])
    assert client.post("/api/v1/votes", json=taken, headers=OWN).status_code == 409
    assert client.post("/api/v1/undo", json={"id": first["id"]}, headers=OWN).status_code == 409
    assert len(store.votes()) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["votes", "undo", "flags", "heartbeat", "guidelines/seen"]),
    sent=st.binary(max_size=200)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries({"id": JSON, "token": JSON, "key": JSON}).map(
        lambda value: json.dumps(value).encode()
    ),
)
def test_no_body_makes_a_5xx_or_a_vote(client, store, path, sent):
    headers = {**OWN, "content-type": "application/json"}
    reply = client.post(f"/api/v1/{path}", content=sent, headers=headers)
    assert 400 <= reply.status_code < 500
    assert store.votes() == []


def test_too_large_a_body_is_413_before_it_is_read(client):
    reply = client.post("/api/v1/votes", content=b"x" * (MAX_BODY + 1), headers=OWN)
    assert reply.status_code == 413


def test_wrong_methods_and_paths_are_4xx(client):
    assert client.get("/api/v1/undo").status_code == 405
    assert client.post("/api/v1/next", headers=OWN, content=b"").status_code == 405
    assert client.get("/api/v1/other").status_code == 404


def test_a_store_in_trouble_is_503_with_the_mend(client, store, tmp_path):
    shown = first_pair(client)
    store.close()  # so that the next request opens the file again
    (tmp_path / "votes.db").write_bytes(b"not a database" * 1000)
    for leftover in ("votes.db-wal", "votes.db-shm"):
        (tmp_path / leftover).unlink(missing_ok=True)
    reply = client.post("/api/v1/votes", json=body(shown["token"]), headers=OWN)
    assert reply.status_code == 503
    assert "not a prefkit store" in reply.json()["error"]
