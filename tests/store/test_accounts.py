"""Accounts on both databases: who may log in, how long a session holds, and how often one errs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from prefkit.core.errors import StoreError
from prefkit.store.accounts import Accounts, Limit
from prefkit.store.tokens import Tokens

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
LIMIT = Limit(most=3, forget=timedelta(hours=24))


@pytest.fixture
def accounts(store):
    return Accounts(store.database)


def test_a_name_without_a_password_may_be_added_and_keeps_its_id(store, accounts):
    rater = store.rater_id("kim")
    assert not accounts.configured()
    assert accounts.add("kim", "lead", NOW, password="hash").id == rater
    assert accounts.configured()
    with pytest.raises(StoreError, match="log in already"):
        accounts.add("kim", "rater", NOW, password="another")
    found = accounts.by_name("kim")
    assert (found.role, found.password) == ("lead", "hash")


def test_a_session_holds_until_it_expires_ends_or_the_password_changes(accounts):
    kim = accounts.add("kim", "rater", NOW, password="hash")
    sessions = [accounts.open_session(kim.id, NOW, LATER) for _ in range(3)]
    assert [accounts.of_session(s, NOW).id for s in sessions] == [kim.id] * 3
    assert accounts.of_session(sessions[0], LATER) is None
    accounts.end_session(sessions[0])
    assert accounts.of_session(sessions[0], NOW) is None
    assert accounts.of_session(sessions[1], NOW) is not None
    accounts.set_password(kim.id, "new")
    assert [accounts.of_session(s, NOW) for s in sessions] == [None] * 3
    assert accounts.of_session("0" * 32, NOW) is None


def test_a_disabled_or_erased_person_has_no_session_and_no_token(store, accounts):
    tokens = Tokens(store.database)
    for name, end in (
        ("kim", lambda person: accounts.disable(person.id)),
        ("rae", lambda person: store.erase(person.id)),
    ):
        person = accounts.add(name, "lead", NOW, password="hash")
        session = accounts.open_session(person.id, NOW, LATER)
        _, token = tokens.make(person.id, "ci", ["read"], NOW)
        assert tokens.find(token, NOW).account.id == person.id
        end(person)
        assert accounts.of_session(session, NOW) is None
        assert tokens.find(token, NOW) is None
    kim = accounts.by_name("kim")
    accounts.disable(kim.id, disabled=False)
    assert accounts.of_session(accounts.open_session(kim.id, NOW, LATER), NOW) is not None
    assert accounts.by_name("rae") is None


def test_another_role_holds_at_once(accounts):
    kim = accounts.add("kim", "rater", NOW, password="hash")
    session = accounts.open_session(kim.id, NOW, LATER)
    accounts.set_role(kim.id, "reviewer")
    assert accounts.of_session(session, NOW).role == "reviewer"


def test_a_token_holds_within_its_scopes_and_time_and_is_not_stored(store, accounts):
    kim = accounts.add("kim", "lead", NOW, password="hash")
    tokens = Tokens(store.database)
    facts, token = tokens.make(kim.id, "ci", ["write", "read", "read"], NOW, LATER)
    held = tokens.find(token, NOW)
    assert (held.account.name, held.scopes, held.until) == ("kim", {"read", "write"}, LATER)
    assert tokens.find(token, LATER) is None
    assert tokens.find(token[:-1] + ("0" if token[-1] != "0" else "1"), NOW) is None
    assert tokens.find(f"{token}\n", NOW) is None
    assert tokens.all() == [facts]
    secret = token.rpartition("_")[2]
    with store.database.reading() as connection:
        assert secret not in str(connection.exec_driver_sql("SELECT * FROM tokens").all())
    assert tokens.revoke(facts.id)
    assert tokens.find(token, NOW) is None
    assert not tokens.revoke("0" * 12)


def test_failures_lock_for_a_minute_and_then_for_twice_as_long(accounts):
    moment = NOW
    assert [accounts.strike({"k": LIMIT}, moment) for _ in range(3)] == [None] * 3
    for minutes in (1, 2, 4, 8, 16, 32, 60, 60):
        until = accounts.strike({"k": LIMIT}, moment)
        assert until == moment + timedelta(minutes=minutes)
        assert accounts.strike({"k": LIMIT}, until - timedelta(seconds=1)) == until
        assert accounts.strike({"other": LIMIT}, moment) is None
        accounts.forgive(["other"], one_of=[])
        moment = until
        assert accounts.strike({"k": LIMIT}, moment) is None


def test_failures_are_forgiven_and_forgotten(accounts):
    for _ in range(3):
        accounts.strike({"k": LIMIT, "place": LIMIT}, NOW)
    assert accounts.strike({"k": LIMIT}, NOW) is not None
    accounts.forgive(["k"], one_of=["place"])
    assert accounts.strike({"k": LIMIT, "place": LIMIT}, NOW) is None
    day = NOW + timedelta(hours=24, seconds=1)
    assert [accounts.strike({"k": LIMIT, "place": LIMIT}, day) for _ in range(3)] == [None] * 3
    assert accounts.strike({"k": LIMIT, "place": LIMIT}, day) is not None


def test_guesses_at_the_same_moment_count_one_by_one(accounts):
    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(lambda _: accounts.strike({"k": LIMIT}, NOW), range(24)))
    assert said.count(None) == 3


def test_people_of_a_provider_are_found_by_issuer_and_subject(accounts):
    kim = accounts.add("kim", "rater", NOW, issuer="https://a", subject="1")
    assert accounts.by_subject("https://a", "1").id == kim.id
    assert accounts.by_subject("https://b", "1") is None
    assert accounts.by_id(kim.id).federated
