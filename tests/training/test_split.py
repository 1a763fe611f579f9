"""No prompt is on both sides of the held-out split, and no prompt moves when data grows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prefkit.core.records import Message, Prompt, TrainRow
from prefkit.training.rows import read_rows
from prefkit.training.split import split_by_prompt


def rows_of(prompts):
    return [
        TrainRow(f"{i}", Prompt.make([Message.of("user", f"q{number}")]), (), "pair")
        for i, number in enumerate(prompts)
    ]


ROWS = st.lists(st.integers(0, 12), max_size=40).map(rows_of)
SHARE = st.floats(0, 0.99)


def ids(rows):
    return {row.prompt.id for row in rows}


@given(ROWS, SHARE, st.integers(0, 5))
def test_every_row_is_on_one_side_with_all_rows_of_its_prompt(rows, share, seed):
    kept, apart = split_by_prompt(rows, share, seed)
    assert sorted(kept + apart, key=rows.index) == rows
    assert [row for row in rows if row in kept] == kept
    assert not ids(kept) & ids(apart)


@given(ROWS, SHARE)
def test_neither_side_is_empty_where_there_are_two_prompts(rows, share):
    kept, apart = split_by_prompt(rows, share, 0)
    assert bool(kept) == bool(rows)
    assert bool(apart) == (share > 0 and len(ids(rows)) > 1)


def test_a_prompt_keeps_its_side_whatever_else_is_there():
    few, many = rows_of(range(50)), rows_of([*range(200, 400), *reversed(range(50))])
    apart = ids(split_by_prompt(few, 0.3, 7)[1])
    assert ids(split_by_prompt(many, 0.3, 7)[1]) & ids(few) == apart


def test_the_share_holds_and_the_seed_matters():
    rows = rows_of(range(2000))
    one, other = (ids(split_by_prompt(rows, 0.1, seed)[1]) for seed in (0, 1))
    # Binomial: 200 ± 4 standard deviations of 13.4.
    assert 146 < len(one) < 254
    assert len(one & other) < 60


def test_raw_text_is_held_out_too():
    texts = read_rows([{"text": f"a sea and {i} foxes"} for i in range(60)]).rows
    asked = [f"Question: what is {i}? Answer:" for i in range(60)]
    pairs = [{"chosen": f"{q} one", "rejected": f"{q} two"} for q in asked]
    again = [{"chosen": f"{q} you may", "rejected": f"{q} you might"} for q in asked]
    pairs_of = read_rows(pairs + again).rows
    bare = read_rows([{"chosen": f"{i} is", "rejected": f"no {i}"} for i in range(60)]).rows
    by_hand = [
        TrainRow(f"r{i}", Prompt.make([]), ((Message.of("assistant", f"{i}"),),), "demonstration")
        for i in range(60)
    ]
    for rows in (texts, pairs_of, bare, read_rows(by_hand).rows):
        kept, apart = split_by_prompt(rows, 0.3, 1)
        assert 3 <= len(apart) <= len(rows) / 2
        assert len(kept) + len(apart) == len(rows)


def test_pairs_of_raw_text_on_one_prompt_are_on_one_side():
    """Also where each answer is a row of its own, and though the answers' letters agree."""
    asked = [f"What is {i}? It is" for i in range(40)]
    given = [
        {"chosen": f"{q} {one}", "rejected": f"{q} {other}"}
        for q in asked
        for one, other in (("good.", "bad."), ("gone.", "golden."))
    ]
    for target in ("pair", "unpaired"):
        kept, apart = split_by_prompt(read_rows(given, target).rows, 0.3, 1)

        def said(rows):
            return {q for q in asked for r in rows if r.completions[0][0].text.startswith(f"{q} ")}

        assert said(apart)
        assert not said(kept) & said(apart)


def test_the_same_raw_text_is_on_one_side_under_two_ids():
    given = [{"text": f"{i} foxes", "id": f"{i} {n}"} for i in range(30) for n in "ab"]
    kept, apart = split_by_prompt(read_rows(given).rows, 0.3, 1)
    assert {row.id for row in (*kept, *apart)} == {row["id"] for row in given}
    texts = [{row.completions[0][0].text for row in side} for side in (kept, apart)]
    assert texts[1]
    assert not texts[0] & texts[1]
