"""The same store on a real PostgreSQL server, started here and thrown away."""

from __future__ import annotations

import threading
from collections import Counter

import psycopg
import pytest
from lease_cases import Desk, plan, take
from store_cases import pair, pairs, vote

from prefkit.core.errors import StoreError
from prefkit.store import VoteStore

pytestmark = pytest.mark.postgres


def test_comparisons_and_votes_come_back_as_they_were(address):
    given = [pair("nul \x00 and \ud800"), *pairs(3)]
    with VoteStore.open(address) as store:
        store.add(given, k=2)
        sent = [vote(c, "kim", "tie", strength=0, active_ms=1234) for c in given]
        assert store.add_votes(sent) == 4
        assert store.add_votes(sent) == 0
        withdrawn = store.undo("kim", "undo-1")
        assert withdrawn is not None
        assert withdrawn.replaces == sent[-1].id
        expected = [*sent, withdrawn]
    with VoteStore.open(address) as store:
        assert store.comparisons() == given
        assert store.votes() == expected
        assert store.counts().standing == 3
        assert store.verify() == []


def test_votes_cannot_be_changed_deleted_or_truncated(address):
    with VoteStore.open(address) as store:
        given = pairs(1)
        store.add(given)
        store.vote(vote(given[0]))
        for statement in (
            "UPDATE votes SET choice='b'",
            "DELETE FROM votes",
            "TRUNCATE votes CASCADE",
        ):
            with (
                psycopg.connect(address.replace("+psycopg", "")) as connection,
                pytest.raises(psycopg.errors.RaiseException, match="append-only"),
            ):
                connection.execute(statement)
        assert len(store.votes()) == 1


def test_eight_threads_give_exactly_k_votes_that_are_not_late(address):
    given = pairs(12)
    with VoteStore.open(address) as store:
        store.add(given, k=2)

        def label(rater):
            desk = Desk(store.leases(), plan(2))
            while (now := desk.next(rater)).state != "done":
                if now.held:
                    desk.vote(rater, now.held[0], "tie")

        threads = [threading.Thread(target=label, args=(f"rater-{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        on_time = Counter(v.comparison_id for v in store.votes() if not v.late)
        assert on_time == {c.id: 2 for c in given}
        assert store.verify() == []


def test_a_backup_is_an_sqlite_store_with_all_there_is(address, tmp_path):
    given = [pair("nul \x00 and \ud800"), *pairs(3)]
    with VoteStore.open(address, home=tmp_path) as store:
        store.add(given, k=2)
        kim = store.rater_id("kim")
        store.add_votes([vote(c, kim, "tie", strength=0, rationale="\u2713") for c in given])
        store.undo(kim, "undo-1")
        lease = take(store, kim)
        copy = store.backup(tmp_path / "copies" / "votes.db")
        votes, names = store.votes(), store.rater_names()
        seen = store.leases().seen(kim, lease.token)
        with pytest.raises(StoreError, match="exists already"):
            store.backup(copy)
    assert [path.name for path in copy.parent.iterdir()] == ["votes.db"]
    with VoteStore.open(copy, create=False) as copied:
        assert copied.comparisons() == given
        assert (copied.votes(), copied.rater_names()) == (votes, names)
        assert copied.leases().seen(kim, lease.token) == seen
        examined = copied.examine()
        assert (examined.faults, examined.n_heads) == ([], 1)
        assert copied.vote(vote(given[0], kim, "a")).choice == "a"
        assert copied.verify() == []


def test_a_server_that_may_lose_votes_is_refused(address):
    name = address.rpartition("/")[2]
    with psycopg.connect(address.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit TO off")
    with pytest.raises(StoreError, match="synchronous_commit is off"):
        VoteStore.open(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_server_that_is_not_there_is_named_without_the_password(host):
    with pytest.raises(StoreError) as caught:
        VoteStore.open(f"postgresql+psycopg://kim:secret@{host}:1/votes")
    assert "secret" not in caught.value.message
    assert host in caught.value.message
