"""No prompt is on both sides of the held-out split, and no prompt moves when data grows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prefkit.core.records import Message, Prompt, TrainRow
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
