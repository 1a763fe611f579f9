"""The same store on a real PostgreSQL server, started here and thrown away."""

from __future__ import annotations

import os
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from lease_cases import Desk, plan, take
from store_cases import pair, pairs, vote

from prefkit.core.errors import StoreError
from prefkit.store import VoteStore, ledger
from prefkit.store.outbox import Outbox

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


def test_a_vote_in_flight_while_its_hook_is_ended_is_not_sent(address):
    (given,) = pairs(1)
    begun, go_on = threading.Event(), threading.Event()

    def slowly(connection):
        ledger.append(connection, [vote(given)])
        begun.set()
        go_on.wait(30)

    with VoteStore.open(address) as store:
        store.add([given])
        outbox, now = Outbox(store.database), datetime.now(UTC)
        hook, _ = outbox.add_hook("http://127.0.0.1:9/", ["vote"], now)
        writing = store.database.submit(slowly)
        assert begun.wait(30)
        assert outbox.end_hook(hook.id)
        go_on.set()
        writing.result(30)
        assert outbox.claim(now + timedelta(days=1)) == []


def test_a_role_that_may_not_make_tables_is_told_so(address):
    with psycopg.connect(address.replace("+psycopg", ""), autocommit=True) as connection:
        role = f"poor_{os.urandom(4).hex()}"
        connection.execute(f"CREATE ROLE {role} LOGIN")
    with pytest.raises(StoreError, match="may not do that: permission denied") as caught:
        VoteStore.open(address.replace("//prefkit@", f"//{role}@"))
    assert "OWNER TO" in (caught.value.hint or "")


def test_a_server_that_only_reads_is_named(address):
    with VoteStore.open(address) as store:
        name = address.rpartition("/")[2]
        with psycopg.connect(address.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only TO on")
        store.database.engine.dispose()
        with pytest.raises(StoreError, match="can only be read"):
            store.add(pairs(1))


def test_a_work_that_others_are_in_the_way_of_again_and_again_is_a_fault_to_try_again(address):
    tries = []

    def blocked(connection):
        tries.append(1)
        connection.exec_driver_sql(
            "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40P01'; END $$"
        )

    with VoteStore.open(address) as store:
        with pytest.raises(StoreError, match="in the way 6 times") as caught:
            store.database.submit(blocked).result(30)
        assert (len(tries), caught.value.hint) == (6, "try again")


def test_a_missing_store_is_not_made_by_looking(address):
    with pytest.raises(StoreError, match="no vote store yet"):
        VoteStore.open(address, create=False)
    with psycopg.connect(address.replace("+psycopg", "")) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert tables.fetchall() == []
