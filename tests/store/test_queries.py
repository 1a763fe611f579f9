"""What a lead asks of a store, on both databases."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from lease_cases import Desk, plan, take
from store_cases import pair, pairs, vote

from prefkit.core.records import Comparison, Completion, Message, Part, Prompt
from prefkit.store import queries
from prefkit.store.disputes import LONGEST, inbox
from prefkit.store.queries import (
    PAGE,
    TookTooLong,
    bounded,
    progress,
    progress_by_day,
    raters_table,
    task_history,
)

MONDAY = datetime(2026, 11, 16, 23, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def three_raters(store, *choices, k=3):
    """One comparison a word of choices, a letter a rater: "aab" is kim a, lee a, rae b."""
    new = pairs(len(choices))
    store.add(new, k=k)
    names = {"a": "a", "b": "b", "t": "tie", "x": "both_bad", "s": "skip"}
    votes = [
        vote(comparison, rater, names[letter])
        for comparison, word in zip(new, choices, strict=True)
        for rater, letter in zip(("kim", "lee", "rae"), word, strict=False)
    ]
    store.add_votes(votes)
    return new


def test_progress_counts_what_is_wanted_and_no_vote_beyond(store):
    first, second, _ = new = pairs(3)
    store.add(new, k=2)
    store.add_votes([vote(first, rater) for rater in ("kim", "lee", "rae")])
    store.add_votes([vote(second, "kim"), vote(second, "lee", "skip")])
    found = progress(store.database)
    assert (found.wanted, found.done, found.n_tasks, found.n_full) == (6, 3, 3, 1)


def test_an_empty_store_has_no_progress_and_no_days(store):
    found = progress(store.database)
    assert (found.wanted, found.done, found.n_tasks, found.n_full) == (0, 0, 0, 0)
    assert progress_by_day(store.database) == []
    assert inbox(store.database, "kim") == ([], 0)


def test_days_are_those_of_utc_and_of_people_whose_votes_stand(store):
    new = pairs(4)
    store.add(new, k=3)
    store.add_votes(
        [
            vote(new[0], "kim", at=MONDAY),
            vote(new[0], "lee", at=MONDAY + timedelta(minutes=29)),
            vote(new[1], "kim", at=MONDAY + timedelta(minutes=31)),
            vote(new[2], "kim", "skip", at=MONDAY + DAY),
            vote(new[2], "rule:x", rater_kind="rule", at=MONDAY + 3 * DAY),
            vote(new[3], "kim", at=MONDAY + 2 * DAY),
        ]
    )
    store.add_votes([vote(new[3], "kim", "withdrawn", at=MONDAY + 2 * DAY)])
    found = [(day.day, day.n_votes, day.n_raters) for day in progress_by_day(store.database)]
    assert found == [("2026-11-16", 2, 2), ("2026-11-17", 1, 1)]


def test_raters_come_with_their_names_and_what_they_did(store):
    kim = store.rater_id("Kim")
    store.rater_id("Nobody Yet")
    new = pairs(3)
    store.add(new, k=1)
    store.add_votes([vote(new[0], kim), vote(new[1], kim, "skip"), vote(new[0], "u00", "b")])
    lease = take(store, kim)
    store.leases().flag(kim, str(uuid.uuid4()), lease.task.id, on=True, note="odd").result(30)
    found = {facts.rater: facts for facts in raters_table(store.database)}
    mine = found[kim]
    assert (mine.name, mine.role, mine.n_votes, mine.n_skipped) == ("Kim", "rater", 2, 1)
    assert (mine.n_late, mine.n_flags) == (0, 1)
    assert mine.first_at <= mine.last_at
    assert mine.last_at.tzinfo is not None
    other = found["u00"]
    assert (other.name, other.n_votes, other.n_late) == (None, 1, 1)
    waiting = next(facts for facts in found.values() if facts.name == "Nobody Yet")
    assert (waiting.n_votes, waiting.last_at) == (0, None)


def test_the_most_disputed_come_first_and_unanimity_never(store):
    new = three_raters(store, "aaa", "aab", "abt", "xxx", "axa")
    found, total = inbox(store.database, "reviewer")
    assert total == 3
    assert found[0].comparison_id == new[2].id
    assert {each.comparison_id: each.disagreement for each in found} == pytest.approx(
        {new[2].id: 1.0, new[1].id: 2 / 3, new[4].id: 2 / 3}
    )
    assert {each.n_votes for each in found} == {3}


def test_each_dispute_says_what_it_is_about(store):
    long, short = pair("Why  is\nthe sky " + "so very blue " * 20 + "?"), pair("And the sea?")
    turns = Prompt.make([Message.of("user", "Hello"), Message.of("assistant", "Hi"),
                         Message.of("user", "Which one?")])  # fmt: skip
    one, other = (Completion.make(turns.id, [Message.of("assistant", t)], "m") for t in "xy")
    silent = Prompt.make([Message("user", (Part("image", path="cat.png"),))])
    left, right = (Completion.make(silent.id, [Message.of("assistant", t)], "m") for t in "xy")
    new = [long, short, Comparison.make(turns, one, other), Comparison.make(silent, left, right)]
    store.add(new, k=2)
    store.add_votes([v for c in new for v in (vote(c, "kim", "a"), vote(c, "lee", "b"))])
    found, _ = inbox(store.database, "reviewer")
    about = {each.comparison_id: each.about for each in found}
    assert [about[each.id] for each in new[1:]] == ["And the sea?", "Which one?", ""]
    assert about[long.id].startswith("Why is the sky so very blue")
    assert about[long.id].endswith("…")
    assert len(about[long.id]) <= LONGEST


def test_pairs_that_still_wait_for_votes_and_machines_are_no_dispute(store):
    three_raters(store, "ab", k=3)
    (judged,) = three = [pair("judged")]
    store.add(three, k=2)
    store.add_votes([vote(judged, "kim"), vote(judged, "rule:x", "b", rater_kind="rule")])
    assert inbox(store.database, "reviewer") == ([], 0)


def test_a_flag_brings_a_pair_into_the_inbox(store):
    (comparison,) = pairs(1)
    store.add([comparison], k=2)
    lease = take(store, "kim")
    store.leases().flag("kim", str(uuid.uuid4()), lease.task.id, on=True).result(30)
    found, total = inbox(store.database, "reviewer")
    assert (total, found[0].n_flags, found[0].n_votes, found[0].disagreement) == (1, 1, 0, 0.0)


def test_who_voted_cannot_decide_and_is_told_so(store):
    new = three_raters(store, "aab")
    (mine,), _ = inbox(store.database, "kim")
    (other,), _ = inbox(store.database, "reviewer")
    assert (mine.comparison_id, mine.voted, other.voted) == (new[0].id, True, False)


def test_the_inbox_comes_in_pages(store):
    three_raters(store, *["aab"] * (PAGE + 5))
    first, total = inbox(store.database, "reviewer")
    second, _ = inbox(store.database, "reviewer", page=1)
    assert (len(first), len(second), total) == (PAGE, 5, PAGE + 5)
    assert len({each.comparison_id for each in first + second}) == PAGE + 5


def test_the_history_of_a_pair_says_who_did_what_and_what_stands(store):
    (comparison,) = pairs(1)
    store.add([comparison], k=3)
    desk = Desk(store.leases(), plan(side="b"))
    lease = desk.next("kim").held[0]
    desk.leases.flag("kim", str(uuid.uuid4()), lease.task.id, on=True, note="look").result(30)
    first = desk.vote("kim", lease, "a", rationale="a knows the date").vote
    desk.undo("kim")
    again = desk.next("kim").held[0]
    desk.vote("kim", again, "b")
    found = task_history(store.database, comparison.id)
    said = [(each.kind, each.vote.choice if each.vote else None, each.stands) for each in found]
    assert sorted(said, key=str) == sorted(
        [
            ("shown", None, False),
            ("flag", None, False),
            ("vote", "a", False),
            ("undo", "withdrawn", False),
            ("vote", "b", True),
        ],
        key=str,
    )
    assert next(each.note for each in found if each.kind == "flag") == "look"
    words = {each.vote.id: each.vote.rationale for each in found if each.vote}
    assert words[first.id] == "a knows the date"
    assert [each.at for each in found] == sorted(each.at for each in found)
    assert task_history(store.database, "nothing") == []


def test_a_question_without_an_end_is_ended(store):
    slow = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
        if store.database.is_sqlite
        else "SELECT pg_sleep(60)"
    )
    with pytest.raises(TookTooLong, match=r"no answer within 0\.2 s"), bounded(
        store.database, 0.2
    ) as connection:  # fmt: skip
        connection.execute(sa.text(slow)).all()
    with bounded(store.database, 0.2) as connection:  # the connection is as good as new
        assert connection.scalar(sa.text("SELECT 1")) == 1
    assert queries.progress(store.database).n_tasks == 0
