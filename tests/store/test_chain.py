"""Events cannot be changed unseen: hash chains, signed heads, and the triggers before them."""

from __future__ import annotations

import hashlib
import json
import os
import stat

import pytest
import sqlalchemy as sa
import tampering
from lease_cases import take
from sqlalchemy.exc import DBAPIError
from store_cases import pairs, vote

from prefkit.core.errors import EnvironmentFault, StoreError
from prefkit.store import VoteStore
from prefkit.store import heads as heads_module
from prefkit.store import signer as signer_module


@pytest.fixture
def voted(store, place):
    """Two raters with five events each: a side shown, votes, a revision, an undo."""
    given = pairs(4)
    store.add(given, k=2)
    for rater in ("kim", "lee"):
        take(store, rater)
        store.add_votes([vote(given[0], rater), vote(given[1], rater, "tie", rationale="so ✓")])
        store.vote(vote(given[0], rater, "b", strength=2, p_a=0.1, aspects={"style": "a"}))
        store.undo(rater, f"undo-{rater}")
    assert store.verify() == []
    return store


def test_the_hash_is_what_the_documentation_says(voted, place):
    events = tampering.rows(place, "SELECT * FROM events ORDER BY rater, n")
    ends = {}
    for e in events:
        n, prev = ends.get(e["rater"], (0, "0" * 64))
        hashed = json.dumps(
            [1, e["rater"], n + 1, e["kind"], e["at"], e["id"], e["task_id"], e["payload"], prev],
            ensure_ascii=True,
            separators=(",", ":"),
        )
        digest = hashlib.blake2b(hashed.encode("ascii"), digest_size=32).hexdigest()
        assert (e["n"], e["prev"], e["hash"]) == (n + 1, prev, digest)
        ends[e["rater"]] = (n + 1, digest)
    stored = tampering.rows(place, "SELECT rater, n, head FROM raters WHERE n > 0")
    assert {row["rater"]: (row["n"], row["head"]) for row in stored} == ends
    assert [e["kind"] for e in events if e["rater"] == "kim"] == [
        "served", "vote", "vote", "vote", "undo",
    ]  # fmt: skip


def test_an_event_holds_no_words(voted, place):
    payloads = [row["payload"] for row in tampering.rows(place, "SELECT payload FROM events")]
    assert not any("so " in payload for payload in payloads)
    texts = tampering.rows(place, "SELECT rater, field, text FROM texts")
    assert {(t["rater"], t["field"], t["text"]) for t in texts} == {
        ("kim", "rationale", "so ✓"),
        ("lee", "rationale", "so ✓"),
    }
    assert [v.rationale for v in voted.votes()].count("so ✓") == 2


TAMPERED = {
    "a payload is changed": (
        "UPDATE events SET payload = replace(payload, '\"a\"', '\"b\"') "
        "WHERE rater = 'kim' AND n = 2",
        "rater kim, event 2: was changed",
    ),
    "a time is changed": (
        "UPDATE events SET at = at + 1 WHERE rater = 'kim' AND n = 3",
        "rater kim, event 3: was changed",
    ),
    "an event in the middle is removed": (
        "DELETE FROM events WHERE rater = 'kim' AND n = 3",
        "rater kim, event 4: comes after event 2; something between is gone",
    ),
    "the last event is removed": (
        "DELETE FROM events WHERE rater = 'kim' AND n = 5",
        "rater kim: 5 events noted, 4 found",
    ),
    "an event is given to another": (
        "UPDATE events SET rater = 'mia', n = 1 WHERE rater = 'kim' AND n = 5",
        "rater mia, event 1: was changed",
    ),
    "a hash is replaced": (
        "UPDATE events SET hash = prev WHERE rater = 'kim' AND n = 2",
        "rater kim, event 3: does not follow",
    ),
    "words are changed": (
        "UPDATE texts SET text = 'not so' WHERE rater = 'kim'",
        "its rationale is not what its event says",
    ),
    "words are removed": ("DELETE FROM texts WHERE rater = 'kim'", "its rationale is gone"),
    "a vote is changed": (
        "UPDATE votes SET choice = 'b' WHERE rater = 'kim' AND choice = 'tie'",
        "not what its event says",
    ),
    "a served side is changed": (
        "UPDATE served SET shown_first = 'a' WHERE rater = 'kim'",
        "rater kim: what was served is not what the events say",
    ),
    "a side is removed": (
        "DELETE FROM served WHERE rater = 'kim'",
        "rater kim: what was served is not what the events say",
    ),
    "slots change places": ("UPDATE comparisons SET a = b, b = a", "its texts were changed"),
    "an answer is changed": (
        "UPDATE comparisons SET a = replace(a, 'first', 'worst'), b = replace(b, 'first', 'worst')",
        "its texts were changed",
    ),
    "a question is changed": (
        "UPDATE comparisons SET prompt = replace(prompt, 'question', 'no')",
        "its texts were changed",
    ),
    "a task is of another pair": (
        "UPDATE tasks SET comparison_id = (SELECT max(id) FROM comparisons)",
        "is not the task that was added",
    ),
    "a counter is changed": ("UPDATE raters SET n_votes = 9 WHERE rater = 'kim'", "rater kim"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_whatever_is_changed_is_named(voted, place, case):
    statement, said = TAMPERED[case]
    tampering.run(place, statement)
    faults = voted.verify()
    assert any(said in fault for fault in faults), faults
    assert not any("rater lee" in fault for fault in faults), faults


def test_a_gold_item_whose_better_side_is_changed_is_named(store, place):
    store.add_gold([(pairs(1)[0], "a")])
    assert store.verify() == []
    tampering.run(place, "UPDATE tasks SET gold = 'b'")
    assert [fault.partition(": ")[2] for fault in store.verify()] == [
        "is not the task that was added"
    ]


def test_two_events_that_changed_places_are_named(voted, place):
    tampering.run(
        place,
        "UPDATE events SET n = -1 WHERE rater = 'kim' AND n = 2",
        "UPDATE events SET n = 2 WHERE rater = 'kim' AND n = 3",
        "UPDATE events SET n = 3 WHERE rater = 'kim' AND n = -1",
    )
    assert any("rater kim, event" in fault for fault in voted.verify())


def _rewrite(place, rater):
    """Change a rater's first vote and link the chain anew, as one who knows the rule would."""
    from prefkit.store import chain

    with tampering.behind(place) as connection:
        query = sa.text("SELECT * FROM events WHERE rater = :r ORDER BY n")
        events = [chain.event_of(row) for row in connection.execute(query, {"r": rater}).mappings()]
        prev = chain.START
        for event in events:
            row = chain.event_row(event) | {"prev": prev}
            row["payload"] = row["payload"].replace('"choice":"tie"', '"choice":"a"')
            row["hash"] = prev = chain.event_hash(chain.event_of(row))
            connection.execute(
                sa.text("UPDATE events SET payload = :payload, prev = :prev, hash = :hash "
                        "WHERE seq = :seq"),
                {name: row[name] for name in ("payload", "prev", "hash", "seq")},
            )  # fmt: skip
        end = {"h": prev, "r": rater}
        connection.execute(sa.text("UPDATE raters SET head = :h WHERE rater = :r"), end)


def test_a_chain_written_anew_is_found_by_the_signed_head(voted, place, tmp_path):
    voted.backup(tmp_path / "copy.db")  # signs
    _rewrite(place, "kim")
    assert voted.replay(write=True)
    faults = voted.verify()
    assert faults == ["rater kim, event 5: is not the event that head 1 signed"]


def test_a_rater_taken_away_whole_is_found_by_the_signed_head(voted, place, tmp_path):
    voted.backup(tmp_path / "copy.db")
    tampering.run(
        place,
        *(f"DELETE FROM {table} WHERE rater = 'kim'" for table in ("standing", "served", "votes")),
        *(f"DELETE FROM {table} WHERE rater = 'kim'" for table in ("texts", "events", "raters")),
    )
    voted.replay(write=True)
    assert voted.verify() == ["rater kim, event 5: signed in head 1, and gone"]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE heads SET signature = hash WHERE seq = 1", "head 1: its signature is forged"),
        ("UPDATE heads SET at = at + 1 WHERE seq = 1", "head 1: was changed"),
        ("DELETE FROM heads WHERE seq = 1", "head 2: a head before it was changed or is gone"),
        ("DELETE FROM heads WHERE seq = 2", "rater kim: was signed up to event 6, and the head"),
    ],
)
def test_a_head_that_was_tampered_with_is_named(voted, place, tmp_path, statement, said):
    voted.backup(tmp_path / "copy.db")
    voted.vote(vote(pairs(4)[3], "kim"))
    voted.backup(tmp_path / "copy2.db")
    assert voted.examine().n_checked == 2
    tampering.run(place, statement)
    assert any(said in fault for fault in voted.verify())


def test_a_head_names_only_the_chains_that_have_grown(voted, place, tmp_path):
    voted.backup(tmp_path / "1.db")
    voted.backup(tmp_path / "2.db")
    voted.vote(vote(pairs(4)[3], "lee"))
    voted.backup(tmp_path / "3.db")
    named = [json.loads(row["chains"]) for row in tampering.rows(place, "SELECT * FROM heads")]
    assert [[rater for rater, _, _ in chains] for chains in named] == [["kim", "lee"], ["lee"]]


def test_votes_by_the_hundred_are_signed_without_being_asked(store, place):
    given = pairs(250)
    store.add(given)
    store.add_votes([vote(c, "rule:format", rater_kind="rule") for c in given])
    assert store.examine().n_heads == 1


def test_without_its_key_a_store_works_and_says_what_was_not_checked(
    voted, place, tmp_path, monkeypatch
):
    voted.backup(tmp_path / "copy.db")
    monkeypatch.setenv("PREFKIT_STORE_KEY", "ab" * 32)
    examined = voted.examine()
    assert (examined.faults, examined.n_heads, examined.n_checked) == ([], 1, 0)
    monkeypatch.setenv("PREFKIT_STORE_KEY", "no key")
    with pytest.raises(EnvironmentFault, match="PREFKIT_STORE_KEY: not a signing key"):
        voted.verify()
    assert voted.vote(vote(pairs(4)[3], "kim")).choice == "a"


def test_the_key_is_for_its_owner_alone_and_made_once(tmp_path):
    key = heads_module.find_or_make_key(tmp_path)
    path = tmp_path / "store.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert heads_module.find_or_make_key(tmp_path) == key
    assert os.listdir(tmp_path) == ["store.key"]
    assert key is not None
    assert key.secret.hex() == path.read_text().strip()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET payload = '{}'",
        "DELETE FROM events",
        "UPDATE votes SET choice = 'b'",
        "DELETE FROM votes",
        "UPDATE heads SET chains = '[]'",
        "DELETE FROM heads",
        "UPDATE texts SET text = 'other'",
    ],
)
def test_the_database_itself_refuses_to_change_what_was_written(voted, place, tmp_path, statement):
    voted.backup(tmp_path / "copy.db")
    address = str(place)
    engine = sa.create_engine(address if "://" in address else f"sqlite:///{address}")
    with engine.connect() as connection, pytest.raises(DBAPIError, match="append-only"):
        connection.exec_driver_sql(statement)
    engine.dispose()
    assert voted.verify() == []


@pytest.mark.postgres
@pytest.mark.parametrize("table", ["events", "votes", "heads", "texts"])
def test_postgresql_refuses_to_empty_a_table(address, table):
    with VoteStore.open(address):
        pass
    engine = sa.create_engine(address)
    with engine.connect() as connection, pytest.raises(DBAPIError, match="append-only"):
        connection.exec_driver_sql(f"TRUNCATE {table} CASCADE")
    engine.dispose()


def test_what_a_hook_asked_for_is_in_the_outbox_with_the_event_and_no_words(store, place):
    for name, kinds, active in (("h1", "vote,undo", 1), ("h2", "undo", 1), ("h3", "vote", 0)):
        values = f"'{name}', 'http://x', 's', '{kinds}', {bool(active)}, '2026-01-01'"
        tampering.run(place, f"INSERT INTO hooks VALUES ({values})")
    given = pairs(2)
    store.add(given)
    store.add_votes([vote(c, "kim", rationale="my words") for c in given])
    store.undo("kim", "undo-1")
    posted = tampering.rows(place, "SELECT * FROM outbox ORDER BY seq")
    kinds = [(row["hook_id"], json.loads(row["body"])["kind"]) for row in posted]
    assert kinds == [("h1", "vote"), ("h1", "vote"), ("h1", "undo"), ("h2", "undo")]
    assert {row["state"] for row in posted} == {"waiting"}
    assert "my words" not in str(posted)
    assert [row["event_seq"] for row in posted][:2] == [
        row["seq"] for row in tampering.rows(place, "SELECT seq FROM events WHERE kind = 'vote'")
    ]
    with pytest.raises(StoreError):
        store.add_votes([vote(given[0], "lee"), vote(pairs(3)[2], "lee")])
    assert len(tampering.rows(place, "SELECT seq FROM outbox")) == 4


def test_chains_are_signed_after_ten_minutes_though_few_events_came(store, place, monkeypatch):
    given = pairs(3)
    store.add(given)
    store.vote(vote(given[0]))
    assert tampering.rows(place, "SELECT * FROM heads") == []
    monkeypatch.setattr(signer_module, "SIGN_SECONDS", 0)  # they have passed
    store.vote(vote(given[1]))
    monkeypatch.undo()
    assert len(tampering.rows(place, "SELECT * FROM heads")) == 1
