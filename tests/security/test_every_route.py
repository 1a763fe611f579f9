"""Every route of the app, Gradio's among them, asked by everybody: only who may gets an answer."""

from __future__ import annotations

import re
import uuid

import pytest
from app_cases import BASE, OWN, team_of
from fastapi.testclient import TestClient
from starlette.routing import Mount, Route
from store_cases import pairs

from prefkit.annotation import routes
from prefkit.annotation.app import build_app
from prefkit.annotation.passwords import hash_password
from prefkit.annotation.routes import POLICY, _flat
from prefkit.store import VoteStore
from prefkit_apps.annotate import build_page

SECRET = "only rae may read this sentence"
REFUSED = (401, 403)
RANKS = {None: 0, "rater": 1, "reviewer": 2, "lead": 3}
SCOPES = ("read", "write", "admin")
# Who somebody is to the app: their rank, and the scopes of a token (None for a person).
PEOPLE = {
    "nobody": (0, None),
    "kim": (1, None),
    "rae": (1, None),
    "reviewer": (2, None),
    "lead": (3, None),
    "token of a lead, read": (3, ("read",)),
    "token of a lead, write": (3, ("write",)),
    "token of a lead, admin": (3, ("admin",)),
    "token of a lead, all": (3, SCOPES),
    "token of a rater, all": (1, SCOPES),
    "disabled": (0, None),
    "new password": (0, None),
    "logged out": (0, None),
    "expired": (0, None),
    "forged": (0, None),
    "token revoked": (0, None),
    "token expired": (0, None),
    "token of a disabled lead": (0, None),
    "token forged": (0, None),
    "token as a cookie": (0, None),
    "cookie as a token": (0, None),
}


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    home = tmp_path_factory.mktemp("team")
    with VoteStore.open(home / "votes.db") as store:
        store.add(pairs(3), k=100)  # enough for everybody who asks for one
        yield team_of(store, home)


@pytest.fixture(scope="module")
def app(team):
    return build_page(team.parts, "prefkit export")


@pytest.fixture(scope="module")
def browser(app):
    with TestClient(app, base_url=BASE, follow_redirects=False) as client:
        yield client


@pytest.fixture(scope="module")
def everybody(team):
    """Name in PEOPLE → the headers they come with."""
    kim, rae = team.add("kim"), team.add("rae")
    reviewer, lead = team.add("reviewer", "reviewer"), team.add("lead", "lead")
    gone, changed = team.add("gone", "lead"), team.add("changed", "lead")
    logged_out = team.session(lead)
    team.accounts.end_session(logged_out.split(".")[0])
    cookies = {
        "kim": team.session(kim),
        "rae": team.session(rae),
        "reviewer": team.session(reviewer),
        "lead": team.session(lead),
        "disabled": team.session(gone),
        "new password": team.session(changed),
        "logged out": logged_out,
        "expired": team.session(lead, hours=-1),
        "forged": f"{team.session(lead)[:-4]}0000",
        "token as a cookie": team.token(lead, *SCOPES),
    }
    tokens = {
        "token of a lead, read": team.token(lead, "read"),
        "token of a lead, write": team.token(lead, "write"),
        "token of a lead, admin": team.token(lead, "admin"),
        "token of a lead, all": team.token(lead, *SCOPES),
        "token of a rater, all": team.token(kim, *SCOPES),
        "token revoked": team.token(lead, *SCOPES),
        "token expired": team.token(lead, *SCOPES, hours=-1),
        "token of a disabled lead": team.token(gone, *SCOPES),
        "token forged": f"{team.token(lead, *SCOPES)[:-4]}0000",
        "cookie as a token": team.session(lead),
    }
    team.tokens.revoke(tokens["token revoked"].split("_")[1])
    team.accounts.disable(gone.id)
    team.accounts.set_password(changed.id, hash_password("another password"))
    found = {"nobody": dict(OWN)}
    found |= {name: team.headers(cookie) for name, cookie in cookies.items()}
    found |= {name: {"authorization": f"Bearer {token}"} for name, token in tokens.items()}
    assert found.keys() == PEOPLE.keys()
    return found


def ask(browser, method, path, headers):
    browser.cookies.clear()
    body = {} if method in ("GET", "HEAD", "DELETE") else {"json": {}}
    return browser.request(method, path, headers=headers, **body)


def filled(path):
    return re.sub(r"\{[^}]+\}", "x", path)


def may(need, rank, scopes):
    enough = need.role is None or scopes is None or need.scope in scopes
    return enough and rank >= RANKS[need.role]


def test_every_route_of_ours_lets_in_who_may_and_nobody_else(app, browser, everybody):
    own = routes.check(app)
    assert len(own) >= 20
    for method, path in own:
        for name, (rank, scopes) in PEOPLE.items():
            status = ask(browser, method, filled(path), everybody[name]).status_code
            if path == "/logout":
                continue  # anybody may leave; who has left is let in again below
            need, what = POLICY[method, path], f"{method} {path} as {name}: {status}"
            assert status < 500, what
            if need.role is None or may(need, rank, scopes):
                assert status not in REFUSED, what
            else:
                assert status == (401 if rank == 0 else 403), what


def test_the_lists_of_who_may_do_what_are_these():
    """By hand, so that a change of POLICY shows here."""
    by_need = {}
    for (method, path), need in POLICY.items():
        by_need.setdefault((need.role, need.scope), set()).add(f"{method} {path}")
    assert by_need[None, None] == {
        "GET /login", "POST /login", "GET /login/oidc", "GET /login/oidc/back", "POST /logout",
    }  # fmt: skip
    programs = {need for need in by_need if need[1] is not None}
    assert programs == {("lead", "read"), ("lead", "write"), ("lead", "admin")}
    assert "GET /api/v1/votes" in by_need["lead", "read"]
    assert by_need["lead", "write"] == {"POST /api/v1/comparisons"}
    assert by_need["lead", "admin"] == {
        "GET /api/v1/tokens", "POST /api/v1/tokens", "DELETE /api/v1/tokens/{token_id}",
        "GET /api/v1/hooks", "POST /api/v1/hooks", "DELETE /api/v1/hooks/{hook_id}",
        "GET /api/v1/deliveries",
    }  # fmt: skip
    assert all("/api/v1/" in path for path in by_need["rater", None])


def gradio_routes(app):
    (mount,) = [route for route in app.routes if isinstance(route, Mount)]
    for route in _flat(mount.app.routes):
        if isinstance(route, Route):
            for method in sorted(route.methods or ()):
                yield method, filled(route.path)


def test_of_gradio_only_the_page_and_its_files_are_there(app, browser, everybody):
    found = set(gradio_routes(app))
    assert ("POST", "/gradio_api/upload") in found
    assert len(found) > 60
    files = set()
    for method, path in sorted(found):
        if path in ("/", "/lead", "/logout", "/login"):
            continue
        for name in ("nobody", "kim", "lead", "token of a lead, all"):
            reply = ask(browser, method, path, everybody[name])
            if path.startswith(("/assets/", "/static/")) or path in ("/favicon.ico", "/theme.css"):
                files.add(path)
                assert reply.status_code not in REFUSED
            else:
                expected = 403 if method not in ("GET", "HEAD") else 404
                assert reply.status_code == expected, f"{method} {path} as {name}"
                assert method == "HEAD" or reply.json().keys() == {"error"}
    assert {"/theme.css", "/favicon.ico"} <= files
    assert ask(browser, "GET", "/lead", everybody["nobody"]).status_code == 303
    assert ask(browser, "GET", "/", everybody["nobody"]).status_code == 303
    assert ask(browser, "GET", "/", everybody["token of a lead, all"]).status_code == 403


@pytest.mark.parametrize(("role", "status"), [("rater", 403), ("reviewer", 200), ("lead", 200)])
def test_the_leads_page_is_for_reviewers_and_leads(browser, team, role, status):
    headers = team.headers(team.session(team.add(f"a {role} of pages", role)))
    assert ask(browser, "GET", "/lead", headers).status_code == status


def test_the_page_is_drawn_for_a_rater_and_an_upload_is_refused(browser, team):
    headers = team.headers(team.session(team.add("page", "lead")))
    assert "gradio" in ask(browser, "GET", "/", headers).text
    upload = {"files": {"files": ("x.html", b"<script>alert(1)</script>")}}
    for path in ("/gradio_api/upload", "/upload"):
        assert browser.post(path, headers=headers, **upload).status_code == 403


def token_for(browser, headers):
    return ask(browser, "GET", "/api/v1/next", headers).json()["pairs"][0]["token"]


def cast(browser, headers, **body):
    return browser.post("/api/v1/votes", json={"key": "1", **body}, headers=headers)


def test_a_rater_never_gets_a_byte_of_anothers_votes(team, app, browser):
    kim, rae, lead = team.add("kim 2"), team.add("rae 2"), team.add("lead 2", "lead")
    headers, of_rae = (team.headers(team.session(who)) for who in (kim, rae))
    given = str(uuid.uuid4())
    words = {"rationale": SECRET, "edit": SECRET[::-1]}
    saved = cast(browser, of_rae, id=given, token=token_for(browser, of_rae), **words)
    assert saved.status_code == 200, saved.text
    own, other = token_for(browser, headers), token_for(browser, of_rae)
    secrets = (given, other, rae.id, "rae 2", SECRET, SECRET[::-1])
    for method, path in routes.check(app):
        if method == "GET":
            reply = ask(browser, method, filled(path), headers)
            assert not [text for text in secrets if text in reply.text], path
    # What a rater does with another's ids changes nothing and tells nothing.
    fresh = str(uuid.uuid4())
    tried = [
        (cast(browser, headers, id=given, token=own), 409),
        (cast(browser, headers, id=fresh, token=other), 404),
        (cast(browser, headers, id=fresh, token=own, replaces=given), 409),
        (browser.post("/api/v1/undo", json={"id": given}, headers=headers), 409),
        (ask(browser, "GET", f"/api/v1/history/{given}", headers), 404),
    ]
    for reply, status in tried:
        assert reply.status_code == status, reply.text
        assert not [text for text in secrets[2:] if text in reply.text]
    reply = browser.post("/api/v1/undo", json={"id": str(uuid.uuid4())}, headers=headers)
    assert reply.json()["undone"] is False
    assert ask(browser, "GET", f"/api/v1/history/{given}", of_rae).status_code == 200
    found = ask(browser, "GET", "/api/v1/votes", team.headers(team.session(lead))).json()["rows"]
    assert [(v["id"], v["rationale"], v["stands"]) for v in found] == [(given, SECRET, True)]


def test_a_route_without_an_entry_stops_the_app_from_starting(team):
    app = build_app(team.parts)
    app.add_api_route("/api/v1/everything", test_the_lists_of_who_may_do_what_are_these)
    with pytest.raises(AssertionError, match="everything"):
        routes.check(app)


def test_a_role_taken_away_holds_at_the_next_request(team, browser):
    person = team.add("promoted", "lead")
    headers, token = team.headers(team.session(person)), team.token(person, "read")
    bearer = {"authorization": f"Bearer {token}"}
    for role, status in (("lead", 200), ("reviewer", 403), ("rater", 403), ("lead", 200)):
        team.accounts.set_role(person.id, role)
        for given in (headers, bearer):
            assert ask(browser, "GET", "/api/v1/votes", given).status_code == status


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=votes.db",
        "/file=/etc/passwd",
        "/file/etc/passwd",
        "/gradio_api/proxy=http://127.0.0.1:1/",
        "/assets/../../../../../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2f..%2f..%2f..%2fetc/passwd",
        "/static/..%5c..%5c..%5cetc%5cpasswd",
        "/static//etc/passwd",
        "/assets/%00/etc/passwd",
        "/static/%252e%252e/%252e%252e/etc/passwd",
        "/api/v1/media/../../votes.db",
        "/api/v1/media/..%2f..%2fvotes.db/1",
        "/api/v1/history/..%2f..%2fvotes.db",
        "/login/../gradio_api/config",
        "//gradio_api/config",
        "/gradio_api/config",
        "/config",
        "/monitoring",
        "/docs",
        "/openapi.json",
        "/votes.db",
        "/session.key",
        "/store.key",
    ],
)
def test_no_path_leads_to_a_file(browser, everybody, path):
    for name in ("nobody", "rae", "reviewer"):
        reply = browser.get(path, headers=everybody[name])
        assert reply.status_code in (401, 403, 404), path
        assert "root:" not in reply.text
        assert "SQLite" not in reply.text
