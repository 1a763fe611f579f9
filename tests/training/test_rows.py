"""What is refused, what is dropped with a count, and how rows are grouped."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from prefkit.core.errors import DataError
from prefkit.core.records import Example, Message, Prompt
from prefkit.formats.schema import to_table
from prefkit.policy.template import TokenRow
from prefkit.training.rows import PairRow, encode_examples, micro_batches, read_examples


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir):
    return AutoTokenizer.from_pretrained(tiny_model_dir)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"p": 1.5}, "p is 1.5; expected a probability in [0, 1]"),
        ({"p": math.nan}, "p is nan"),
        ({"weight": -1.0}, "weight is -1.0"),
        ({"weight": math.inf}, "weight is inf"),
        ({"margin": math.nan}, "margin is nan"),
        ({"chosen": ()}, "chosen does not end in an assistant message"),
        ({"rejected": (Message.of("user", "x"),)}, "rejected does not end in an assistant"),
        ({"prompt": Prompt("x", ())}, "the prompt has no messages"),
    ],
)
def test_a_faulty_row_is_refused_by_its_id(pairs, change, said):
    bad = replace(pairs[3], **change)
    with pytest.raises(DataError) as caught:
        read_examples([*pairs[:3], bad])
    assert bad.id in caught.value.message
    assert said in caught.value.message


def test_all_faults_are_counted_and_the_first_are_shown(pairs):
    with pytest.raises(DataError) as caught:
        read_examples([replace(pair, p=-1.0) for pair in pairs])
    assert len(caught.value.message.splitlines()) == 6
    assert f"and {len(pairs) - 5} more rows" in caught.value.message


def test_a_table_gives_the_same_examples_as_the_list(pairs):
    assert read_examples(to_table(pairs, Example)) == read_examples(pairs) == pairs


def test_a_table_without_a_column_or_with_a_hole_is_refused(pairs):
    table = to_table(pairs, Example)
    with pytest.raises(DataError):
        read_examples(table.drop_columns(["chosen"]))
    rows = table.to_pylist()
    rows[4]["p"] = None
    with pytest.raises(DataError, match="row 4 has no 'p'"):
        read_examples(type(table).from_pylist(rows, schema=table.schema))


def test_every_row_is_kept_or_dropped_for_a_reason(tokenizer, pairs):
    identical = replace(pairs[0], rejected=pairs[0].chosen)
    # Decoding is many to one for no text here, so equal tokens come from cutting equal heads off.
    long_text = "fox " * 200
    same_head = replace(
        pairs[1],
        chosen=(Message.of("assistant", long_text + "a"),),
        rejected=(Message.of("assistant", long_text + "b"),),
    )
    no_room = replace(pairs[2], prompt=Prompt.make([Message.of("user", long_text)]))
    rows = [*pairs, identical, same_head, no_room, replace(pairs[4], weight=0.0)]
    rows.append(replace(pairs[5], p=0.5))
    found = encode_examples(tokenizer, rows, max_length=64, overlong="truncate", soft=False)
    assert found.dropped == {
        "identical": 1,
        "no_preference": 1,
        "overlong": 1,
        "token_identical": 1,
        "zero_weight": 1,
    }
    assert len(found.rows) + sum(found.dropped.values()) == len(rows)
    assert found.n_truncated == 0


def test_overlong_pairs_are_cut_or_dropped_and_counted_either_way(tokenizer, pairs):
    long = replace(pairs[0], chosen=(Message.of("assistant", "fox dog " * 60),))
    cut = encode_examples(tokenizer, [long], max_length=64, overlong="truncate", soft=True)
    assert (len(cut.rows), cut.n_truncated, cut.dropped) == (1, 1, {})
    out = encode_examples(tokenizer, [long], max_length=64, overlong="drop", soft=True)
    assert (len(out.rows), out.n_truncated, out.dropped) == (0, 0, {"overlong": 1})


@given(lengths=st.lists(st.integers(2, 40), max_size=30), size=st.integers(1, 8))
def test_micro_batches_hold_every_row_once_and_neighbours_in_length(lengths, size):
    rows = [
        PairRow(str(i), TokenRow(tuple(range(n)), 1), TokenRow((0, 1), 1), 1.0, 1.0, None)
        for i, n in enumerate(lengths)
    ]
    batches = micro_batches(rows, size)
    flat = [row for batch in batches for row in batch]
    assert sorted(row.id for row in flat) == sorted(row.id for row in rows)
    assert [row.length for row in flat] == sorted(n + 1 for n in lengths)
    assert all(1 <= len(batch) <= size for batch in batches)
    assert micro_batches(rows[::-1], size) == batches
