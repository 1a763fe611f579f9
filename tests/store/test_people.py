"""Names live in one table, and erasing a person breaks nothing."""

from __future__ import annotations

import re
import threading

import pytest
import tampering
from store_cases import pairs, vote

from prefkit.core.errors import StoreError
from prefkit.store import VoteStore, ledger

NAME = "Wilhelmina Featherstonehaugh"
WORDS = "the second answer reads like my own thesis"


@pytest.fixture
def voted(store):
    given = pairs(3)
    store.add(given, k=2)
    rater = store.rater_id(NAME)
    store.add_votes([vote(c, rater, "tie", rationale=WORDS) for c in given])
    store.vote(vote(given[0], store.rater_id("lee"), "a", edit="better so"))
    return store


def test_a_name_gives_one_opaque_id_for_ever(store, place, tmp_path):
    first = store.rater_id(NAME)
    assert re.fullmatch("u[0-9a-f]{15}", first)
    assert store.rater_id("lee") != first
    with VoteStore.open(place, home=tmp_path) as again:
        assert again.rater_id(NAME) == first
        assert again.rater_names()[first] == NAME


def test_no_table_but_users_holds_a_name(voted, place):
    tables = ("events", "votes", "standing", "served", "raters", "texts", "heads", "meta", "tasks")
    for table in tables:
        found = tampering.rows(place, f"SELECT * FROM {table}")
        assert NAME not in repr(found), table
    assert NAME in repr(tampering.rows(place, "SELECT * FROM users"))


@pytest.mark.parametrize("words", [False, True])
def test_erasing_a_person_leaves_a_sound_store_with_all_votes(voted, words):
    before = voted.votes()
    of_person = voted.rater_id(NAME)
    erased = voted.erase(NAME, words=words)
    assert (erased.id, erased.n_texts) == (of_person, 3 if words else 0)
    assert voted.verify() == []
    assert voted.replay() == []
    assert NAME not in voted.rater_names().values()
    after = voted.votes()
    assert [v.id for v in after] == [v.id for v in before]
    kept = {v.rationale for v in after if v.rater == of_person}
    assert kept == ({None} if words else {WORDS})
    assert [v.edit for v in after][-1] == "better so"
    assert voted.rater_id(NAME) != of_person  # the name comes back as somebody new


def test_words_that_go_without_an_erasure_are_a_fault(voted, place):
    voted.erase("lee", words=True)
    tampering.run(place, "DELETE FROM texts")
    faults = voted.verify()
    assert len(faults) == 3
    assert all("its rationale is gone" in fault for fault in faults)


def test_nobody_of_that_name_is_an_error(voted):
    with pytest.raises(StoreError, match="'mia' is nobody's name"):
        voted.erase("mia")


def test_after_an_erasure_the_name_and_words_are_in_no_byte_of_the_file(tmp_path):
    path = tmp_path / "votes.db"
    with VoteStore.open(path) as store:
        given = pairs(200)
        store.add(given)
        rater = store.rater_id(NAME)
        store.add_votes([vote(c, rater, rationale=WORDS) for c in given])

        def bytes_on_disk():
            return b"".join(p.read_bytes() for p in tmp_path.glob("votes.db*"))

        assert NAME.encode() in bytes_on_disk()
        assert WORDS.encode() in bytes_on_disk()
        assert store.erase(NAME, words=True).wiped is True
        assert NAME.encode() not in bytes_on_disk()
        assert WORDS.encode() not in bytes_on_disk()
        assert store.verify() == []
        assert len(store.votes()) == 200


def test_an_id_that_is_also_a_name_erases_nobody(store):
    kim = store.rater_id("kim")
    namesake = store.rater_id(kim)
    with pytest.raises(StoreError, match="the id of one person and the name of another"):
        store.erase(kim)
    assert store.rater_names() == {kim: "kim", namesake: kim}
    assert store.erase("kim").id == kim
    assert store.erase(namesake).id == namesake


@pytest.mark.postgres
def test_words_of_a_vote_in_flight_go_with_the_others(address):
    begun, go_on = threading.Event(), threading.Event()
    (given,) = pairs(1)
    with VoteStore.open(address) as store:
        store.add([given])
        rater = store.rater_id(NAME)

        def slowly(connection):
            ledger.append(connection, [vote(given, rater, rationale=WORDS)])
            begun.set()
            go_on.wait(30)

        writing = store.database.submit(slowly)
        assert begun.wait(30)
        erasing = threading.Thread(target=lambda: store.erase(NAME, words=True))
        erasing.start()
        erasing.join(0.5)
        go_on.set()
        writing.result(30)
        erasing.join(30)
        assert tampering.rows(address, "SELECT * FROM texts") == []
        assert store.verify() == []
