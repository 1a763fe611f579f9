"""Log-in as a browser meets it: the cookie, its end, wrong passwords, and the log-in page."""

from __future__ import annotations

import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor

import pytest
from app_cases import BASE, OWN, PASSWORD, team_of
from store_cases import pairs

from prefkit.annotation.guard import client_address, place_of
from prefkit.annotation.passwords import hash_password, verify_password
from prefkit.core.errors import DataError
from prefkit.store import VoteStore


@pytest.fixture
def team(tmp_path):
    with VoteStore.open(tmp_path / "votes.db") as store:
        store.add(pairs(2))
        yield team_of(store, tmp_path)


def log_in(client, name="kim", password=PASSWORD, **headers):
    form = {"name": name, "password": password}
    return client.post("/login", data=form, headers={"origin": BASE, **headers})


def test_a_password_is_argon2id_with_19_mib_two_passes_and_one_lane():
    stored = hash_password(PASSWORD)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert stored != hash_password(PASSWORD)
    assert verify_password(stored, PASSWORD)
    assert not verify_password(stored, f"{PASSWORD} ")
    assert not verify_password(None, "nobody's password")
    assert not verify_password("no hash", PASSWORD)
    assert verify_password(hash_password("\ud800 and nine more"), "\ud800 and nine more")


@pytest.mark.parametrize("password", ["", "ninechars", "x" * 201])
def test_a_password_too_short_or_too_long_is_refused(password):
    with pytest.raises(DataError, match="10 to 200"):
        hash_password(password)


def test_log_in_sets_a_cookie_that_opens_the_app_and_log_out_ends_it(team):
    team.add("kim")
    with team.client() as client:
        assert client.get("/api/v1/next").status_code == 401
        away = log_in(client)
        assert (away.status_code, away.headers["location"]) == (303, "/")
        said = away.headers["set-cookie"].lower()
        assert "httponly" in said
        assert "samesite=lax" in said
        assert "secure" not in said
        assert client.get("/api/v1/next").status_code == 200
        cookie = client.cookies[team.cookie]
        assert "kim" in client.get("/login").text
        left = client.post("/logout", headers={"origin": BASE})
        assert (left.status_code, left.headers["location"]) == (303, "/login")
        assert client.get("/api/v1/next").status_code == 401
        # Kept by somebody and sent again, it opens nothing.
        assert client.get("/api/v1/next", headers=team.headers(cookie)).status_code == 401


def test_a_session_outlives_the_app_and_not_a_new_password(team, tmp_path):
    kim = team.add("kim")
    with team.client() as client:
        log_in(client)
        cookie = client.cookies[team.cookie]
    team.store.close()
    with VoteStore.open(tmp_path / "votes.db") as store:
        again = team_of(store, tmp_path)
        with again.client() as client:
            assert client.get("/api/v1/next", headers=again.headers(cookie)).status_code == 200
            again.accounts.set_password(kim.id, hash_password("another password"))
            assert client.get("/api/v1/next", headers=again.headers(cookie)).status_code == 401
            assert log_in(client).status_code == 401
            assert log_in(client, password="another password").status_code == 303


def test_the_key_of_the_cookies_can_be_read_by_its_owner_only(team):
    assert (team.home / "session.key").stat().st_mode & 0o777 == 0o600


def test_a_cookie_that_was_changed_or_made_elsewhere_opens_nothing(team):
    kim, lead = team.add("kim"), team.add("lead", "lead")
    cookie = team.session(kim)
    session, expires, signature = cookie.split(".")
    other = team.session(lead).split(".")[0]
    text = "\0".join(("session", session, expires)).encode()
    forged = hmac.new(b"\0" * 32, text, hashlib.sha256).hexdigest()
    tried = [
        f"{session}.{int(expires) + 1}.{signature}",
        f"{other}.{expires}.{signature}",
        f"{session}.{expires}.{forged}",
        f"{session}.{expires}.",
        f"{session}.{expires}",
        session,
        "",
        f"{cookie}x",
        f"{'0' * 32}.{expires}.{team.parts.sessions.digest('session', '0' * 32, expires)}",
        team.session(kim, hours=-1),
    ]
    with team.client() as client:
        assert client.get("/api/v1/next", headers=team.headers(cookie)).status_code == 200
        for changed in tried:
            reply = client.get("/api/v1/next", headers=team.headers(changed))
            assert reply.status_code == 401, changed


def test_the_sixth_guess_is_not_looked_at_and_says_how_long(team):
    team.add("kim")
    team.add("rae")
    with team.client() as client:
        said = [log_in(client, password=f"a wrong guess {n}").status_code for n in range(6)]
        assert said == [401] * 5 + [429]
        locked = log_in(client)
        assert locked.status_code == 429
        assert 0 < int(locked.headers["retry-after"]) <= 60
        assert log_in(client, name="rae").status_code == 303


def test_a_log_in_after_four_mistakes_starts_the_count_anew(team):
    team.add("kim")
    with team.client() as client:
        for _ in range(2):
            for n in range(4):
                assert log_in(client, password=f"a wrong guess {n}").status_code == 401
            assert log_in(client).status_code == 303


def test_guesses_sent_at_once_get_five_answers_between_them(team):
    team.add("kim")
    with team.client() as client, ThreadPoolExecutor(8) as threads:
        sent = threads.map(lambda n: log_in(client, password=f"wrong guess {n}"), range(16))
        said = [reply.status_code for reply in sent]
    assert (said.count(401), said.count(429)) == (5, 11)


def test_nobody_and_somebody_get_the_same_answer(team):
    team.add("kim")
    team.store.rater_id("without a password")
    disabled = team.add("gone")
    team.accounts.disable(disabled.id)
    with team.client() as client:
        said = {
            (reply.status_code, reply.text)
            for reply in (
                log_in(client, password="a wrong guess"),
                log_in(client, name="nobody"),
                log_in(client, name="without a password"),
                log_in(client, name="gone"),
            )
        }
    assert len(said) == 1


def test_a_forwarded_address_is_believed_from_a_proxy_only():
    def of(client, forwarded, proxies):
        headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
        return client_address({"client": (client, 1), "headers": headers}, proxies)

    assert of("9.9.9.9", "1.1.1.1", ()) == "9.9.9.9"
    assert of("9.9.9.9", "1.1.1.1", ("10.0.0.0/8",)) == "9.9.9.9"
    assert of("10.0.0.1", "1.1.1.1", ("10.0.0.0/8",)) == "1.1.1.1"
    # What the client wrote itself stands before what the proxy added.
    assert of("10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", ("10.0.0.0/8",)) == "1.1.1.1"
    assert of("10.0.0.1", "", ("10.0.0.0/8",)) == "10.0.0.1"
    assert of("10.0.0.1", "not an address", ("10.0.0.0/8",)) == "not an address"


def test_failures_of_one_ipv6_network_are_those_of_one_place():
    assert place_of("2001:db8:1:2:3::4") == place_of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert place_of("2001:db8:1:3::4") != place_of("2001:db8:1:2::4")
    assert place_of("fe80::1%eth0") == "fe80::/64"
    assert place_of("::ffff:192.0.2.1") == place_of("192.0.2.1") == "192.0.2.1"
    assert place_of("testclient") == "testclient"


def test_a_form_of_another_site_logs_nobody_in(team):
    team.add("kim")
    with team.client() as client:
        for headers in (
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
        ):
            assert log_in(client, **headers).status_code == 403
        assert log_in(client, **{"content-type": "text/plain"}).status_code == 415
        assert not client.cookies


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"name=\xff&password=x", 400),
        (b"\xff\xfe", 400),
        (b"a=1&" * 40, 400),
        (b"", 401),
        (b"name=kim", 401),
        (b"name=%00%ff&password=%F0%9F", 400),
    ],
)
def test_no_form_makes_a_5xx(team, body, status):
    headers = {"content-type": "application/x-www-form-urlencoded", "origin": BASE}
    with team.client() as client:
        assert client.post("/login", content=body, headers=headers).status_code == status


def test_the_page_names_nobody_in_a_way_that_a_browser_would_run(team):
    evil = "<img src=x onerror=alert(1)>"
    account = team.add(evil)
    with team.client(account) as client:
        page = client.get("/login")
        assert "&lt;img src=x" in page.text
        assert "<img" not in page.text
        assert "script-src" not in page.headers["content-security-policy"]
        assert "default-src 'none'" in page.headers["content-security-policy"]
        refused = log_in(client, name=evil, password="<script>alert(1)</script>")
        assert "script>alert" not in refused.text


def test_over_https_the_cookie_is_for_this_host_and_https_alone(tmp_path):
    with VoteStore.open(tmp_path / "votes.db") as store:
        team = team_of(store, tmp_path, public_url="https://label.example.org")
        team.add("kim")
        with team.client() as client:
            host = {"host": "label.example.org", "origin": "https://label.example.org"}
            away = log_in(client, **host)
            said = away.headers["set-cookie"]
            assert said.startswith("__Host-prefkit=")
            assert "Secure" in said
            assert "Path=/" in said
            assert "Domain" not in said
            assert "max-age" in away.headers["strict-transport-security"]
            assert log_in(client, host="evil.example").status_code == 421
            crossed = {**host, "origin": "http://label.example.org"}
            assert log_in(client, **crossed).status_code == 403


def test_without_a_session_a_page_leads_to_the_log_in_and_the_api_says_401(team):
    with team.client() as client:
        away = client.get("/")
        assert (away.status_code, away.headers["location"]) == (303, "/login")
        refused = client.post("/api/v1/votes", json={}, headers=OWN)
        assert (refused.status_code, refused.json()) == (401, {"error": "log in first"})


def test_a_page_of_one_person_is_refused_with_the_cookie_of_another(team):
    kim, rae = team.add("kim"), team.add("rae")
    with team.client(rae) as client:
        for named, status in ((rae.id, 200), ("1", 200), (kim.id, 401)):
            headers = {"x-prefkit": named}
            assert client.get("/api/v1/next", headers=headers).status_code == status
            said = client.put("/api/v1/me", json={"theme": "dark"}, headers=headers)
            assert said.status_code == status


def test_each_person_votes_as_themselves(team):
    team.store.want(2)
    people = [team.add(name) for name in ("kim", "rae")]
    for person in people:
        with team.client(person) as client:
            token = client.get("/api/v1/next").json()["pairs"][0]["token"]
            sent = {"id": f"00000000-0000-4000-8000-{person.id[1:13]}", "token": token, "key": "1"}
            assert client.post("/api/v1/votes", json=sent).status_code == 200
    assert {v.rater for v in team.store.votes()} == {person.id for person in people}
