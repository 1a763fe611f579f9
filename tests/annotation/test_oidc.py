"""Log-in through an identity provider on loopback: who gets in, and what is seen through."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from app_cases import BASE, serving, team_of
from fake_idp import CLIENT, SECRET, Idp, signed_by, with_algorithm
from joserfc.jwk import RSAKey

from prefkit.annotation.oidc import Provider
from prefkit.annotation.settings import AnnotateSettings
from prefkit.core.errors import ConfigError
from prefkit.settings import parse_settings
from prefkit.store import VoteStore
from prefkit.workspace import Workspace
from prefkit_apps.annotate import _parts


@pytest.fixture(scope="module")
def idp():
    opened = Idp()
    with serving(opened.app()) as address:
        opened.issuer = address
        yield opened


@pytest.fixture(autouse=True)
def as_it_should_be(idp, monkeypatch):
    idp.claims, idp.writes = {}, None
    monkeypatch.setenv("IDP_SECRET", SECRET)


@pytest.fixture
def store(tmp_path):
    with VoteStore.open(tmp_path / "votes.db") as opened:
        yield opened


def team_with(store, home, idp, **changes):
    settings = {"issuer": idp.issuer, "client_id": CLIENT, "client_secret_env": "IDP_SECRET",
                "domains": ["example.org"], **changes}  # fmt: skip
    team = team_of(store, home, oidc=settings)
    oidc = team.parts.settings.oidc
    provider = Provider(oidc, team.parts.sessions, f"{BASE}/login/oidc/back")
    team.parts = replace(team.parts, provider=provider)
    return team


@pytest.fixture
def team(store, tmp_path, idp):
    return team_with(store, tmp_path, idp)


def there(client):
    """From our log-in page to the provider and to where it sends the browser."""
    away = client.get("/login/oidc")
    assert away.status_code == 303, away.text
    reply = httpx2.get(away.headers["location"], follow_redirects=False)
    assert reply.status_code == 303, reply.text
    back = urlsplit(reply.headers["location"])
    return f"{back.path}?{back.query}"


def test_a_person_of_the_provider_gets_an_account_and_the_same_one_again(team):
    with team.client() as client:
        assert "/login/oidc" in client.get("/login").text
        reply = client.get(there(client))
        assert (reply.status_code, reply.headers["location"]) == (303, "/"), reply.text
        assert client.get("/api/v1/next").status_code == 200
        assert f"{team.cookie}-oidc" not in client.cookies
    with team.client() as client:
        assert client.get(there(client)).status_code == 303
    (kim,) = team.accounts.everyone()
    assert (kim.name, kim.role, kim.federated) == ("kim@example.org", "rater", True)


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another client"},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"iss": "https://another.example"},
        {"exp": int(time.time()) - 600},
        {"exp": None},
        {"sub": None},
        {"email": "kim@evil.example"},
        {"email": "kim@example.org.evil.example"},
        {"email": "kim@example.org", "email_verified": False},
        {"email_verified": "true"},
        {"email_verified": None},
        {"email": None},
    ],
)
def test_a_claim_that_is_wrong_lets_nobody_in(team, idp, claims):
    idp.claims = claims
    with team.client() as client:
        assert client.get(there(client)).status_code == 403
        assert client.get("/api/v1/next").status_code == 401
    assert team.accounts.everyone() == []


def test_a_signature_of_another_key_or_kind_lets_nobody_in(team, idp):
    published = idp.key.as_pem(private=False)
    tried = {
        "another key": signed_by(RSAKey.generate_key(2048, {"kid": "one"})),
        "the public key as a secret": with_algorithm("HS256", published),
        "the client's secret": with_algorithm("HS256", SECRET.encode()),
        "no signature": with_algorithm("none", b""),
        "no token": lambda _: "",
        "no JWT": lambda _: "a.b.c",
    }
    for what, writes in tried.items():
        idp.writes = writes
        with team.client() as client:
            assert client.get(there(client)).status_code == 403, what
    assert team.accounts.everyone() == []


def test_a_log_in_that_was_not_begun_in_this_browser_is_refused(team):
    with team.client() as client, team.client() as victim:
        back = there(client)
        assert victim.get(back).status_code == 403
        assert client.get(back.replace("state=", "state=x")).status_code == 403
        cookie = client.cookies[f"{team.cookie}-oidc"]
        for changed in (f"{cookie[:-4]}0000", cookie.replace(".", "x", 1), ""):
            headers = {"cookie": f"{team.cookie}-oidc={changed}"}
            assert victim.get(back, headers=headers).status_code == 403
        assert client.get("/login/oidc/back?error=access_denied").status_code == 403
        assert client.get(back).status_code == 303
        # The code was used, and the attempt forgotten.
        assert client.get(back).status_code == 403


def test_nobody_is_taken_for_a_person_who_has_that_name_already(team):
    lead = team.add("kim@example.org", "lead")
    with team.client() as client:
        assert client.get(there(client)).status_code == 303
    people = {person.id: person for person in team.accounts.everyone()}
    assert people.pop(lead.id).role == "lead"
    ((_, newcomer),) = people.items()
    assert newcomer.name.startswith("kim@example.org ")
    assert newcomer.role == "rater"


def test_a_disabled_account_stays_out(team):
    with team.client() as client:
        client.get(there(client))
        (kim,) = team.accounts.everyone()
        team.accounts.disable(kim.id)
        assert client.get("/api/v1/next").status_code == 401
        assert client.get(there(client)).status_code == 403


def test_the_configuration_says_which_role_and_who(store, tmp_path, idp):
    team = team_with(store, tmp_path, idp, role="reviewer", domains=["*"])
    idp.claims = {"email": None, "name": "Kim\n\0 the First"}
    with team.client() as client:
        assert client.get(there(client)).status_code == 303
    (kim,) = team.accounts.everyone()
    assert (kim.name, kim.role) == ("Kim the First", "reviewer")


def test_a_provider_that_is_not_there_is_said_on_the_log_in_page(store, tmp_path, idp):
    for issuer in ("http://127.0.0.1:9", f"{idp.issuer}/", f"{idp.issuer}/elsewhere"):
        team = team_with(store, tmp_path, idp, issuer=issuer)
        with team.client() as client:
            reply = client.get("/login/oidc")
            assert reply.status_code == 503, issuer
            assert "identity provider" in reply.text or "calls itself" in reply.text


@pytest.mark.parametrize(
    ("host", "settings", "home"),
    [
        ("127.0.0.1", {}, "http://127.0.0.1:7860"),
        ("192.0.2.7", {}, "http://192.0.2.7:7860"),
        ("2001:db8::7", {}, "http://[2001:db8::7]:7860"),
        ("0.0.0.0", {"public_url": "https://l.example/"}, "https://l.example"),
    ],
)
def test_people_come_back_to_the_address_that_they_opened(
    store, tmp_path, idp, host, settings, home
):
    oidc = {"issuer": idp.issuer, "client_id": CLIENT, "domains": ["example.org"]}
    annotate = parse_settings(AnnotateSettings, {"oidc": oidc, **settings})
    (tmp_path / "prefkit.yaml").write_text("")
    parts = _parts(Workspace.open(tmp_path), store, annotate, host, 7860, None)
    away, _ = asyncio.run(parts.provider.begin())
    assert parse_qs(urlsplit(away).query)["redirect_uri"] == [f"{home}/login/oidc/back"]


def test_a_secret_that_is_not_set_is_said_at_the_start(store, tmp_path, idp, monkeypatch):
    monkeypatch.delenv("IDP_SECRET")
    with pytest.raises(ConfigError, match="IDP_SECRET is not set"):
        team_with(store, tmp_path, idp)
