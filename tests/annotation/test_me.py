"""What the page is told of the rater, and what it may keep for them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from app_cases import OWN, team_of
from store_cases import pairs

from prefkit.annotation import me as me_module
from prefkit.annotation.routes import Need, need_of
from prefkit.store import VoteStore
from prefkit.store.preferences import Preferences, read_preferences


@pytest.fixture
def team(tmp_path):
    with VoteStore.open(tmp_path / "votes.db") as store:
        store.add(pairs(2))
        yield team_of(store, tmp_path, aspects=("helpfulness", "Ton"), confidence=True)


def test_a_rater_is_told_what_is_asked_of_them(team):
    kim = team.add("kim")
    me = team.client(kim).get("/api/v1/me").json()
    assert (me["id"], me["name"], me["role"]) == (kim.id, "kim", "rater")
    assert (me["aspects"], me["confidence"], me["rationale_at"]) == (
        ["helpfulness", "Ton"], True, 4,
    )  # fmt: skip
    assert (me["locale"], me["theme"], me["keys"]) == (None, None, {})
    # What to run next is for whoever has the terminal.
    assert (me["next_command"], me["logs_out"]) == (None, True)


ROLES = ("rater", "reviewer", "lead")


def leads_of(team):
    return {role: team.client(team.add(role, role)).get("/api/v1/me").json()["leads"]
            for role in ROLES}  # fmt: skip


def test_the_page_leads_to_the_leads_page_where_there_is_one_for_this_role(team):
    need = need_of("GET", "/lead")
    there = [] if not isinstance(need, Need) else ROLES[ROLES.index(need.role) :]
    assert leads_of(team) == {role: role in there for role in ROLES}


@pytest.mark.parametrize("needed", ROLES)
def test_a_role_includes_those_before_it(team, monkeypatch, needed):
    asked = []
    monkeypatch.setattr(me_module, "need_of", lambda *of: asked.append(of) or Need(needed))
    place = ROLES.index(needed)
    assert list(leads_of(team).values()) == [n >= place for n in range(len(ROLES))]
    assert set(asked) == {("GET", "/lead")}


def test_wishes_are_kept_for_their_owner_alone_and_what_is_absent_stays(team):
    kim, lee = team.client(team.add("kim")), team.client(team.add("lee"))
    assert kim.put("/api/v1/me", json={"locale": "fr"}).json()["locale"] == "fr"
    kim.put("/api/v1/me", json={"keys": {"undo": "z", "1": "q"}, "theme": "dark"})
    me = kim.get("/api/v1/me").json()
    assert (me["locale"], me["theme"], me["keys"]) == ("fr", "dark", {"undo": "z", "1": "q"})
    assert kim.put("/api/v1/me", json={"theme": None}).json()["theme"] is None
    assert lee.get("/api/v1/me").json()["keys"] == {}
    assert team.store.verify() == []


def test_two_wishes_at_once_are_both_kept(team):
    """From two tabs, or from two processes of the app."""
    kim = team.add("kim")
    tabs, both = (team.client(kim), team.client(kim)), Barrier(2)

    def wish(tab, **what):
        both.wait()
        return tab.put("/api/v1/me", json=what).status_code

    with ThreadPoolExecutor(2) as threads:
        for n in range(25):
            wished = {"locale": ("fr", "zh")[n % 2]}, {"keys": {"undo": f"{n}"}}
            sent = [
                threads.submit(wish, tab, **what) for tab, what in zip(tabs, wished, strict=True)
            ]
            assert [one.result() for one in sent] == [200, 200]
            kept = read_preferences(team.store.database, kim.id)
            assert {"locale": kept.locale, "keys": kept.keys} == wished[0] | wished[1]


@pytest.mark.parametrize(
    "body",
    [
        {"locale": "de"},
        {"theme": "pink"},
        {"keys": {"undo": "u", "flag": "u"}},
        {"keys": {"undo": ""}},
        {"keys": {"undo": " "}},
        {"keys": {"undo": "a\nb"}},
        {"keys": {"undo": "x" * 17}},
        {"keys": {"steal": "x"}},
        {"name": "lead"},
        {"role": "lead"},
        [],
    ],
)
def test_a_wish_that_makes_no_sense_is_422_and_changes_nothing(team, body):
    kim = team.client(team.add("kim"))
    assert kim.put("/api/v1/me", json=body).status_code == 422
    me = kim.get("/api/v1/me").json()
    assert (me["locale"], me["theme"], me["keys"], me["role"]) == (None, None, {}, "rater")


def test_who_is_not_logged_in_is_told_nothing(team):
    assert team.client().get("/api/v1/me").status_code == 401
    assert team.client().put("/api/v1/me", json={}, headers=OWN).status_code == 401


def test_an_erased_rater_leaves_no_wish_behind(team):
    kim = team.add("kim")
    team.client(kim).put("/api/v1/me", json={"keys": {"undo": "z"}, "locale": "fr"})
    team.store.erase("kim")
    assert read_preferences(team.store.database, kim.id) == Preferences()
