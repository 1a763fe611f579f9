"""The lead's routes over real sockets: who gets what, and what a reviewer sees before deciding."""

from __future__ import annotations

import json
import uuid
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from app_cases import serving, team_of
from store_cases import pair, vote

from prefkit.annotation.app import build_app
from prefkit.store import VoteStore

NUMBERS = ("overview", "agreement", "bias", "raters", "exports", "guidelines")
SECRET = "kim's own reason"


class Caller:
    """Somebody with a cookie, over HTTP."""

    def __init__(self, url, headers):
        self.url, self.headers = url, headers

    def __call__(self, path, body=None):
        """(status, JSON or bytes)."""
        data = None if body is None else json.dumps(body).encode()
        headers = {**self.headers, "content-type": "application/json"}
        request = Request(f"{self.url}/api/v1/{path}", data=data, headers=headers)
        try:
            with urlopen(request) as reply:
                status, found = reply.status, reply.read()
                kind = reply.headers["content-type"]
        except HTTPError as error:
            status, found, kind = error.code, error.read(), error.headers["content-type"]
        return status, json.loads(found) if "json" in kind and "lines" not in kind else found


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A served app with a dispute in it: kim says a, lee says b, rae was not asked."""
    home = tmp_path_factory.mktemp("lead")
    with VoteStore.open(home / "votes.db") as store:
        disputed, agreed, left = (
            pair("Who walked on the Moon?", "Armstrong walked.", "Gagarin walked."),
            pair("Two and two?", "Four.", "Five."),
            pair("open", "one", "two"),
        )
        store.add([disputed, agreed], k=2)
        with serving_team(store, home) as (url, team):
            roles = {"kim": "rater", "lee": "rater", "rev": "reviewer", "second": "reviewer"}
            people = {n: team.add(n, role) for n, role in {**roles, "boss": "lead"}.items()}
            kim, lee = people["kim"].id, people["lee"].id
            store.add_votes(
                [
                    vote(disputed, kim, "a", rationale=SECRET, shown_first="a", strength=3),
                    vote(disputed, lee, "b", shown_first="b", strength=1),
                    vote(agreed, kim, "a", shown_first="a", strength=2),
                    vote(agreed, lee, "a", shown_first="b", strength=2),
                ]
            )
            store.add([left], k=2)
            callers = {name: Caller(url, team.headers(team.session(account)))
                       for name, account in people.items()}  # fmt: skip
            yield store, callers, disputed, agreed, left


def serving_team(store, home):
    """The app on a port of its own, with a guard that knows the port."""
    import socket
    from contextlib import contextmanager

    @contextmanager
    def opened():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        team = team_of(store, home, port)
        with serving(build_app(team.parts), port) as url:
            yield url, team

    return opened()


def test_only_a_lead_sees_the_numbers(world):
    _, callers, *_ = world
    for name in NUMBERS:
        assert callers["boss"](f"lead/{name}")[0] == 200
        assert callers["rev"](f"lead/{name}")[0] == 403
        assert callers["kim"](f"lead/{name}")[0] == 403


def test_the_numbers_are_those_of_the_votes(world):
    _, callers, *_ = world
    _, overview = callers["boss"]("lead/overview")
    assert overview["progress"] == {"wanted": 6, "done": 4, "n_tasks": 3, "n_full": 2}
    assert overview["plot"].startswith("<svg")
    assert overview["forecast"]["left"] == 2
    _, agreement = callers["boss"]("lead/agreement")
    assert agreement["overall"]["n_comparisons"] == 2
    assert agreement["overall"]["alpha"]["value"] < 1
    assert "no two raters have" in agreement["overall"]["why"]["kappa"]
    _, bias = callers["boss"]("lead/bias")
    left = next(row for row in bias["rows"] if row["name"] == "left")
    assert (left["n_votes"], left["share"]["value"]) == (4, 0.75)
    _, raters = callers["boss"]("lead/raters")
    named = {row["facts"]["name"]: row for row in raters["rows"]}
    assert named["kim"]["facts"]["n_votes"] == 2
    assert named["rev"]["quality"] is None


def test_a_reviewer_is_blind_until_their_vote_is_stored(world):
    store, callers, disputed, _, _ = world
    ask = callers["rev"]
    status, found = ask("disputes")
    assert (status, found["total"], found["lead"]) == (200, 1, False)
    (row,) = found["rows"]
    assert row["comparison_id"] == disputed.id
    assert len(found["reasons"]) == 10
    assert ask(f"disputes/{disputed.id}")[0] == 409
    status, case = ask(f"disputes/{disputed.id}/open", {})
    assert status == 200
    before = json.dumps([found, case])
    assert SECRET not in before
    assert "choice" not in before
    assert ask(f"disputes/{disputed.id}")[0] == 409
    body = {"id": str(uuid.uuid4()), "token": case["token"], "key": "1",
            "reasons": ["hallucination", "verbosity"], "rationale": "b is wrong"}  # fmt: skip
    status, after = ask(f"disputes/{disputed.id}/decide", body)
    assert status == 200
    assert SECRET in json.dumps(after)
    mine = next(each for each in after["votes"] if each["who"] == "you")
    assert (mine["reasons"], mine["rationale"]) == (["hallucination", "verbosity"], "b is wrong")
    assert mine["choice"] == case["left_slot"]
    assert {each["who"] for each in after["votes"]} == {"you", "rater 1", "rater 2"}
    assert "kim" not in json.dumps([{**each, "rationale": ""} for each in after["votes"]])
    assert ask(f"disputes/{disputed.id}/decide", body)[0] == 200  # a lost reply, sent again
    again = {**body, "id": str(uuid.uuid4()), "key": "7"}
    assert ask(f"disputes/{disputed.id}/decide", again) == (
        409, {"error": "you have decided this pair"})  # fmt: skip
    assert ask(f"disputes/{disputed.id}")[0] == 200
    # it is final, and no pair of the rater's page
    assert ask("history")[1]["votes"] == []
    assert ask(f"history/{body['id']}")[0] == 404
    changed = {"id": str(uuid.uuid4()), "token": case["token"], "key": "7", "replaces": body["id"]}
    assert ask("votes", changed)[0] == 404
    assert callers["second"](f"disputes/{disputed.id}")[0] == 409  # each for themselves
    assert store.verify() == []
    assert store.replay() == []


def test_a_lead_who_opened_a_pair_reads_its_history_after_the_decision(world):
    """Search leads to every pair, and so to the votes on one that is theirs to decide."""
    store, callers, *_ = world
    new = pair("Who wrote Faust?", "Goethe.", "Schiller.")
    store.add([new], k=2)
    store.add_votes([vote(new, "ana", "a", rationale="ana said so"), vote(new, "bo", "b")])
    boss, address = callers["boss"], f"lead/comparisons/{new.id}"
    assert "ana said so" in json.dumps(boss(address)[1])
    case = boss(f"disputes/{new.id}/open", {})[1]
    status, said = boss(address)
    assert (status, "decide the pair first" in said["error"]) == (409, True)
    assert "ana said so" not in json.dumps(said)
    body = {"id": str(uuid.uuid4()), "token": case["token"], "key": "i"}
    assert boss(f"disputes/{new.id}/decide", body)[0] == 200
    assert "ana said so" in json.dumps(boss(address)[1])


def test_who_may_not_decide_is_told_why(world):
    _, callers, disputed, _, left = world
    assert callers["kim"]("disputes")[0] == 403
    status, said = callers["rev"](f"disputes/{left.id}/open", {})
    assert (status, "0 of 2 votes" in said["error"]) == (409, True)
    assert callers["rev"]("disputes/nothing/open", {})[0] == 404
    case = callers["second"](f"disputes/{disputed.id}/open", {})[1]
    body = {"id": str(uuid.uuid4()), "token": case["token"], "key": "4"}
    for change, expected in (
        ({"key": "s"}, 422),
        ({"key": "9"}, 422),
        ({"reasons": ["because"]}, 422),
        ({"reasons": ["format"] * 11}, 422),
        ({"rationale": "x" * 4001}, 422),
        ({"token": str(uuid.uuid4())}, 404),
        ({"active_ms": -1}, 422),
        ({"more": 1}, 422),
    ):
        assert (
            callers["second"](f"disputes/{disputed.id}/decide", {**body, **change})[0] == expected
        )
    # a case of one pair does not decide another
    other = callers["second"](f"disputes/{left.id}/decide", body)
    assert other[0] == 404
    # and what another reviewer was shown is not theirs to use
    assert (
        callers["rev"](f"disputes/{disputed.id}/decide", {**body, "id": str(uuid.uuid4())})[0]
        == 404
    )


def test_a_pair_that_raters_hold_is_not_decided_by_its_token(world):
    _, callers, _, _, left = world
    shown = callers["rev"]("next")[1]["pairs"][0]
    assert shown["task_id"] == left.id
    body = {"id": str(uuid.uuid4()), "token": shown["token"], "key": "1"}
    assert callers["rev"](f"disputes/{left.id}/decide", body)[0] == 404


def test_a_decided_pair_becomes_an_example_that_raters_read(world):
    store, callers, disputed, agreed, _ = world
    boss = callers["boss"]
    assert boss("lead/examples", {"comparison_id": agreed.id})[0] == 409
    assert boss("lead/examples", {"comparison_id": "nothing"})[0] == 404
    assert callers["rev"]("lead/examples", {"comparison_id": disputed.id})[0] == 403
    before = callers["kim"]("guidelines")[1]
    body = {"comparison_id": disputed.id, "note": "Gagarin <script>alert(1)</script> flew."}
    status, after = boss("lead/examples", body)
    assert (status, after["version"] != before["version"]) == (200, True)
    told = callers["kim"]("guidelines")[1]
    assert told["version"] == after["version"]
    assert "Armstrong walked." in told["html"]
    assert "<script>" not in told["html"]
    old = callers["kim"](f"guidelines?version={before['version']}")[1]
    assert old["html"] == before["html"]
    shown = callers["second"]("next")[1]["pairs"][0]
    cast = {"id": str(uuid.uuid4()), "token": shown["token"], "key": "4"}
    assert callers["second"]("votes", cast)[0] == 200
    stored = next(v for v in store.votes() if v.id == cast["id"])
    assert stored.guideline_version == after["version"]
    assert store.verify() == []


def test_search_and_history_are_for_leads(world):
    _, callers, disputed, *_ = world
    assert callers["rev"]("lead/search?q=Moon")[0] == 403
    status, found = callers["boss"]("lead/search?q=own%20reason")
    assert status == 200
    assert [hit["comparison_id"] for hit in found["hits"]] == [disputed.id]
    assert found["hits"][0]["places"] == ["rationale"]
    assert callers["boss"]("lead/search?q=kim")[1]["raters"][0][1] == "kim"
    assert callers["boss"]("lead/search?q=")[1]["hits"] == []
    assert callers["boss"](f"lead/search?q={'x' * 201}")[0] == 422
    status, whole = callers["boss"](f"lead/comparisons/{disputed.id}")
    assert status == 200
    assert {each["who"] for each in whole["history"]} >= {"kim", "lee"}
    assert callers["boss"]("lead/comparisons/nothing")[0] == 404


def test_files_are_given_out_whole(world):
    _, callers, disputed, *_ = world
    rows = callers["boss"]("lead/exports")[1]["rows"]
    assert {"votes", "preferences", "trl", "kto", "jsonl", "parquet"} <= {r["what"] for r in rows}
    for row in rows:
        status, data = callers["boss"](f"lead/export/{row['what']}")
        assert (status, len(data) > 0) == (200, True), row
    status, data = callers["boss"]("lead/export/votes")
    lines = [json.loads(line) for line in data.splitlines()]
    assert disputed.id in {line["comparison_id"] for line in lines}
    assert SECRET.encode() not in data
    assert callers["boss"]("lead/export/passwords")[0] == 404
    assert callers["boss"]("lead/export/..%2f..%2fetc%2fpasswd")[0] in (404, 422)
