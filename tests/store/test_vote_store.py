"""What the vote store keeps, serves and counts."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from lease_cases import Desk, plan
from store_cases import pair, pairs, vote

from prefkit.core.errors import PrefkitError, StoreError
from prefkit.store import VoteStore

RATERS = ("kim", "lee", "mia")
COUNTED = {"a", "b", "tie", "both_bad", "invalid"}


@pytest.fixture
def store(tmp_path):
    with VoteStore.open(tmp_path / "votes.db") as opened:
        yield opened


class StoreMachine(RuleBasedStateMachine):
    """Raters vote, revise, skip, undo and retry in any order; a plain dict is the oracle."""

    K = 2

    def __init__(self):
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.store = VoteStore.open(f"{self.folder.name}/votes.db")
        self.comparisons = pairs(4)
        self.store.add(self.comparisons, k=self.K)
        self.written = []
        self.stands = {}  # (rater, comparison id) -> vote, in the order of the last word

    def teardown(self):
        self.store.close()
        self.folder.cleanup()

    def counted(self, comparison_id, but=None):
        return sum(
            v.choice in COUNTED and not v.late
            for (rater, of), v in self.stands.items()
            if of == comparison_id and rater != but
        )

    @rule(
        rater=st.sampled_from(RATERS),
        index=st.integers(0, 3),
        choice=st.sampled_from(["a", "b", "tie", "both_bad", "invalid", "skip"]),
    )
    def votes(self, rater, index, choice):
        comparison = self.comparisons[index]
        late = choice in COUNTED and self.counted(comparison.id, but=rater) >= self.K
        before = self.stands.pop((rater, comparison.id), None)
        stored = self.store.vote(vote(comparison, rater, choice))
        assert stored.late == late
        assert stored.replaces == (before.id if before else None)
        self.stands[rater, comparison.id] = stored
        self.written.append(stored)

    @rule(rater=st.sampled_from(RATERS))
    def undoes(self, rater):
        mine = [key for key in self.stands if key[0] == rater]
        withdrawn = self.store.undo(rater, f"undo-{len(self.written)}")
        if not mine:
            assert withdrawn is None
            return
        last = self.stands.pop(mine[-1])
        assert (withdrawn.choice, withdrawn.replaces) == ("withdrawn", last.id)
        self.written.append(withdrawn)

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def sends_again(self, data):
        again = data.draw(st.sampled_from(self.written))
        assert self.store.add_votes([again]) == 0

    @invariant()
    def the_store_says_what_the_oracle_says(self):
        assert self.store.votes() == self.written
        assert self.store.verify() == []
        counts = self.store.counts()
        assert counts.standing == len(self.stands)
        assert counts.choices == dict(Counter(v.choice for v in self.stands.values()))
        done = {c.id for c in self.comparisons if self.counted(c.id) >= self.K}
        assert (counts.done, counts.open) == (len(done), 4 - len(done))
        for rater in RATERS:
            left = {c.id for c in self.comparisons if (rater, c.id) not in self.stands} - done
            assert self.store.progress(rater).left == len(left)


StoreMachine.TestCase.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)
TestStoreMachine = StoreMachine.TestCase


def test_comparisons_come_back_as_they_were_even_with_nul_and_lone_surrogates(store):
    odd = [pair("nul \x00 and \ud800 ✓", "a\x00", "\udfff"), *pairs(3, origin="other")]
    assert store.add(odd) == 4
    assert store.comparisons() == odd
    assert store.comparisons("other") == odd[1:]
    assert store.origins() == ["other", "test"]


def test_text_that_no_database_takes_costs_no_vote(store):
    given = pair("q", origin="caf\udce9.jsonl")
    store.add([given])
    stored = store.vote(vote(given, rationale="so \ud800\0 it is", edit="\ud83d\ude00"))
    assert (stored.rationale, stored.edit) == ("so \ufffd\ufffd it is", "\U0001f600")
    assert store.origins() == ["caf\ufffd.jsonl"]
    assert store.counts("caf\udce9.jsonl").votes == 1


def test_adding_again_adds_nothing_and_keeps_the_votes(store):
    given = pairs(3)
    store.add(given)
    store.vote(vote(given[0]))
    assert store.add([*given, pair("new")]) == 1
    assert store.counts().done == 1
    assert len(store.comparisons()) == 4


def test_a_larger_k_reopens_what_was_done(store):
    given = pairs(2)
    store.add(given)
    store.add_votes([vote(c) for c in given])
    assert store.counts().open == 0
    assert store.want(2) == 2
    assert (store.counts().open, store.progress("lee").left) == (2, 2)
    assert store.progress("kim").left == 0


def test_add_votes_is_all_or_nothing(store):
    given = pairs(2)
    store.add(given)
    with pytest.raises(StoreError, match="not in the store"):
        store.add_votes([vote(given[0]), vote(pair("unknown"))])
    assert store.votes() == []
    assert store.counts().done == 0


def test_an_id_twice_in_one_call_counts_once(store):
    (only,) = pairs(1)
    store.add([only])
    first = vote(only)
    assert store.add_votes([first, replace(first, choice="b")]) == 1
    assert [v.choice for v in store.votes()] == ["a"]


@pytest.mark.parametrize("statement", ["UPDATE votes SET choice = 'b'", "DELETE FROM votes"])
def test_votes_cannot_be_changed_or_deleted(store, tmp_path, statement):
    given = pairs(1)
    store.add(given)
    store.vote(vote(given[0]))
    with (
        sqlite3.connect(tmp_path / "votes.db") as connection,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        connection.execute(statement)
    assert [v.choice for v in store.votes()] == ["a"]


def test_eight_threads_give_exactly_k_votes_that_are_not_late(tmp_path):
    given = pairs(12)
    path = tmp_path / "votes.db"
    with VoteStore.open(path) as store:
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


def test_a_backup_is_a_store_of_its_own(store, tmp_path):
    given = pairs(3)
    store.add(given)
    store.vote(vote(given[0]))
    copy = store.backup(tmp_path / "copies" / "votes.db")
    store.vote(vote(given[1]))
    with VoteStore.open(copy) as copied:
        assert copied.votes() == store.votes()[:1]
        assert copied.verify() == []
    with pytest.raises(StoreError, match="exists already"):
        store.backup(copy)


def test_a_backup_that_finds_no_room_is_an_error_and_leaves_nothing(tmp_path):
    code = (
        "import resource, signal, sys\n"
        "from prefkit.core.errors import PrefkitError\n"
        "from prefkit.store import VoteStore\n"
        "store = VoteStore.open(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n    store.backup(sys.argv[2])\n"
        "except PrefkitError as error:\n    print('told:', error)\n"
    )
    words = [sys.executable, "-c", code, tmp_path / "votes.db", tmp_path / "copies" / "votes.db"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout.startswith("told: "), ended.stderr
    assert list((tmp_path / "copies").iterdir()) == []


def test_verify_names_a_counter_and_a_stand_that_are_wrong(store, tmp_path):
    given = pairs(2)
    store.add(given)
    store.vote(vote(given[0]))
    with sqlite3.connect(tmp_path / "votes.db") as connection:
        connection.execute("UPDATE tasks SET n_done = 7 WHERE id = ?", [given[1].id])
        connection.execute("DELETE FROM standing")
    faults = store.verify()
    assert any(f"task {given[1].id}: 7 votes noted, 0 counted" in fault for fault in faults)
    assert any("what stands" in fault for fault in faults)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE comparisons SET a = substr(a, 1, 20)", "texts are damaged"),
        ("UPDATE comparisons SET a = CAST(x'7b22ffff7d' AS TEXT)", "the store is damaged"),
    ],
)
def test_damaged_texts_are_found_and_named(store, tmp_path, damage, said):
    store.add(pairs(2))
    with sqlite3.connect(tmp_path / "votes.db") as connection:
        connection.execute(damage)
    with pytest.raises(StoreError, match=said):
        store.comparisons()
    try:
        faults = store.verify()
    except StoreError as error:
        faults = [error.message]
    assert any(said in fault for fault in faults)


def test_a_file_that_is_no_database_is_named(tmp_path):
    path = tmp_path / "votes.db"
    path.write_text("these are not the votes you look for" * 100)
    with pytest.raises(StoreError, match=r"votes\.db: not a prefkit store"):
        VoteStore.open(path)


def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(StoreError, match="other tables"):
        VoteStore.open(path)


def test_a_damaged_store_is_a_store_error_not_a_traceback(tmp_path):
    path = tmp_path / "votes.db"
    with VoteStore.open(path) as store:
        given = pairs(200)
        store.add(given)
        store.add_votes([vote(c) for c in given])
    raw = bytearray(path.read_bytes())
    raw[4096 * 2 : len(raw) - 4096] = b"\xff" * (len(raw) - 4096 * 3)
    path.write_bytes(raw)

    def read_all():
        with VoteStore.open(path) as store:
            return store.comparisons(), store.votes()

    with pytest.raises(StoreError, match="damaged"):
        read_all()


def test_a_missing_store_is_not_made_by_looking(tmp_path):
    with pytest.raises(StoreError, match="no vote store yet") as caught:
        VoteStore.open(tmp_path / "votes.db", create=False)
    assert "prefkit loop run" in (caught.value.hint or "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["mysql://root@localhost/x", "nonsense://", "://", "postgresql://kim@host:port/votes"]
)
def test_other_addresses_are_refused_with_the_two_that_work(url):
    with pytest.raises(PrefkitError) as caught:
        VoteStore.open(url)
    assert "postgresql+psycopg://" in (caught.value.hint or "")
