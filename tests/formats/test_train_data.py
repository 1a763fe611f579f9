"""Training data of every layout: read right or refused by row."""

import json
import math

import datasets
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from real_data import real_data

from prefkit.core.errors import DataError
from prefkit.core.records import Example, Message, Prompt
from prefkit.formats.load import load, read_examples
from prefkit.formats.schema import from_table
from prefkit.formats.train import read_train_data
from prefkit.formats.train_layouts import TRAIN_LAYOUTS


def user(text):
    return {"role": "user", "content": text}


def bot(text):
    return {"role": "assistant", "content": text}


# Each layout in a row of plain text and, where it has one, the same row as messages.
ROWS = {
    "unpaired": [
        {"prompt": "q", "completion": "yes", "label": True},
        {"prompt": [user("q")], "completion": [bot("yes")], "label": True},
        {"prompt": "\n\nHuman: q\n\nAssistant:", "completion": "yes", "label": True},
    ],
    "unpaired_dialogue": [{"messages": [user("q"), bot("yes")], "label": True}],
    "ranking": [
        {"prompt": "q", "completions": ["yes", "no"]},
        {"prompt": [user("q")], "completions": [[bot("yes")], [bot("no")]]},
        {"prompt": "q", "completions": ["no", "yes"], "ranks": [2, 1]},
        {"prompt": "q", "completions": ["no", "yes"], "scores": [0.1, 0.9]},
    ],
    "prompt_completion": [
        {"prompt": "q", "completion": "yes"},
        {"prompt": [user("q")], "completion": [bot("yes")]},
    ],
    "dialogue": [
        {"messages": [user("q"), bot("yes")]},
        {"messages": [user("q"), bot("yes"), user("?")]},
    ],
    "text": [{"text": "yes"}],
    "raw_pair": [{"chosen": "yes it is", "rejected": "yes it was"}],
}
CASES = [(name, row) for name, rows in ROWS.items() for row in rows]


def one(row, **options):
    [found] = read_train_data([row], **options).rows
    return found


def said(row):
    return [answer[-1].text for answer in row.completions]


def test_every_layout_has_a_row_here():
    assert set(ROWS) == set(TRAIN_LAYOUTS.names())


@pytest.mark.parametrize(("name", "row"), CASES)
def test_every_spelling_of_a_layout_gives_the_same_row(name, row):
    data = read_train_data([row])
    first = one(ROWS[name][0])
    assert data.layout == name
    assert data.rows[0].id == first.id
    assert data.rows[0].completions == first.completions
    assert data.rows[0].target == TRAIN_LAYOUTS.get(name).target
    assert data.rows[0].place == "list: row 1"


@pytest.mark.parametrize(("name", "row"), CASES)
@pytest.mark.parametrize(
    "wrap",
    [datasets.Dataset.from_list, pd.DataFrame, pl.DataFrame, pa.Table.from_pylist],
    ids=["dataset", "pandas", "polars", "arrow"],
)
def test_every_kind_of_table_gives_the_same_row(name, row, wrap):
    assert read_train_data(wrap([row])).rows[0].id == one(row).id


def test_files_give_the_same_rows_and_their_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": "q", "completion": "yes", "label": n % 2 == 0} for n in range(3)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    read = read_train_data(path)
    assert [row.place for row in read.rows] == [f"{path}:{n}" for n in (1, 2, 3)]
    assert [row.p for row in read.rows] == [1.0, 0.0, 1.0]


def test_a_pair_is_the_example_that_load_gives_with_its_label_and_votes():
    row = {"prompt": "q", "chosen": "yes", "rejected": "no", "p": 0.8, "weight": 2.0, "margin": 1.0}
    votes = json.dumps([{"choice": "chosen"}])
    found = one(row | {"votes": votes})
    [example] = from_table(load([row]), Example)
    assert (found.id, found.p, found.weight, found.margin) == (example.id, 0.8, 2.0, 1.0)
    assert found.votes == votes


def test_votes_follow_the_sides_when_they_are_swapped():
    votes = [{"choice": "chosen"}, {"choice": "b"}, {"choice": "tie"}]
    row = {"prompt": "q", "chosen": "x", "rejected": "y", "p": 0.2, "votes": json.dumps(votes)}
    read = read_train_data([row])
    found = read.rows[0]
    assert read.n_flipped == 1
    assert said(found) == ["y", "x"]
    assert [vote["choice"] for vote in json.loads(found.votes)] == ["rejected", "b", "tie"]
    # Slot a was the file's chosen side, which is now rejected: chosen is slot b.
    assert json.loads(found.evidence)["chosen_slot"] == "b"


def test_arguments_of_the_chat_template_and_tools_travel():
    tools = [{"name": "weather", "parameters": {"city": {"type": "string"}, "unit": None}}]
    row = ROWS["prompt_completion"][1] | {
        "tools": tools,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    found = one(row)
    assert found.arguments == {"enable_thinking": False}
    # Arrow fills the keys of other rows' tools with nulls: they are no part of a schema.
    assert json.loads(found.prompt.tools) == [
        {"name": "weather", "parameters": {"city": {"type": "string"}}}
    ]


def test_raw_text_has_no_prompt_and_no_turns():
    assert one({"text": "yes"}).prompt.messages == ()
    assert one({"chosen": "a b", "rejected": "a c"}).prompt.messages == ()


def test_texts_beside_a_column_that_may_be_their_prompt_are_no_raw_pair():
    with pytest.raises(DataError, match="'frage' would be left out"):
        read_train_data([{"frage": "q", "chosen": "a", "rejected": "b"}])


@pytest.mark.parametrize("name", [name for name in ROWS if name != "raw_pair"])
def test_where_pairs_are_wanted_other_training_data_is_told_what_it_is(name):
    with pytest.raises(DataError) as caught:
        load([ROWS[name][0]])
    assert f"these rows are {name} " in caught.value.hint


def test_equal_ranks_keep_the_first_and_are_counted():
    row = {"prompt": "q", "completions": ["a", "b", "c", "d"], "scores": [3, 5, 5, 1]}
    read = read_train_data([row])
    assert said(read.rows[0]) == ["b", "a", "d"]
    assert read.n_tied == 1
    even = {"prompt": "q", "completions": ["a", "b"], "scores": [1, 1]}
    read = read_train_data([row, even])
    assert len(read.rows) == 1
    assert read.unusable == (("list: row 2", "a list without two answers of different rank"),)


@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("unpaired", {"label": "maybe"}, "label is 'maybe'; expected true or false"),
        ("unpaired", {"label": None}, "label is None"),
        ("unpaired", {"label": 0.5}, "label is 0.5"),
        ("unpaired", {"completion": None}, "completion is missing"),
        ("unpaired", {"prompt": None}, "prompt is missing"),
        ("unpaired", {"p": 0.3}, "label is true and p is 0.3"),
        ("unpaired", {"p": 1.3}, "p is 1.3"),
        ("prompt_completion", {"p": 0.7}, "take none"),
        ("ranking", {"p": 0.7}, "take none"),
        ("unpaired_dialogue", {"messages": []}, "does not end in an assistant message"),
        ("unpaired_dialogue", {"messages": [user("q")]}, "does not end in an assistant message"),
        ("ranking", {"completions": ["a", 3]}, "completions[1] is 3"),
        ("ranking", {"completions": None}, "completions is no list"),
        ("ranking", {"ranks": [1]}, "ranks is not a list of 2 numbers"),
        ("ranking", {"ranks": [1, None]}, "ranks[1] is missing"),
        ("ranking", {"ranks": [1, 2], "scores": [2, 1]}, "ranks and scores are both given"),
        ("prompt_completion", {"completion": [user("x")]}, "does not end in an assistant"),
        ("prompt_completion", {"weight": -1}, "weight is -1"),
        (
            "dialogue",
            {"messages": [user("q"), bot("a") | {"reasoning_content": "hm"}]},
            "reasoning_content is not read",
        ),
        ("prompt_completion", {"tools": "x"}, "tools is 'x'; expected JSON"),
        ("prompt_completion", {"chat_template_kwargs": [1]}, "expected an object"),
        ("raw_pair", {"p": math.nan}, "p is nan"),
        ("raw_pair", {"margin": math.inf}, "margin is inf"),
    ],
)
def test_a_malformed_cell_is_named_with_its_row(name, change, what):
    rows = [ROWS[name][0]] * 9 + [ROWS[name][0] | change]
    with pytest.raises(DataError) as caught:
        read_train_data(rows)
    assert caught.value.message.startswith("list: row 10: ")
    assert what in caught.value.message


@pytest.mark.parametrize("wrap", [list, pd.DataFrame, pl.DataFrame, pa.Table.from_pylist])
def test_p_that_is_nan_is_named_and_not_read_as_certain(wrap):
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b", "p": p} for p in (0.8, math.nan)]
    for read in (read_train_data, read_examples):
        with pytest.raises(DataError, match=r"row 2: p is nan"):
            read(wrap(rows))


def test_five_faults_are_named_and_the_others_counted():
    rows = [{"prompt": "q", "completion": "x", "label": "?"}] * 8
    with pytest.raises(DataError) as caught:
        read_train_data([{"prompt": "q", "completion": "x", "label": True}] * 2 + rows)
    lines = caught.value.message.splitlines()
    assert [line.split(": label")[0] for line in lines[:-1]] == [
        f"list: row {n}" for n in range(3, 8)
    ]
    assert lines[-1] == "and 3 more rows"


def test_examples_and_train_rows_are_taken_as_they_are():
    example, _ = Example.make(
        Prompt.make([Message.of("user", "q")]),
        [Message.of("assistant", "a")],
        [Message.of("assistant", "b")],
        p=0.75,
    )
    [row] = read_train_data([example]).rows
    assert (row.id, row.p, row.completions) == (
        example.id,
        0.75,
        (example.chosen, example.rejected),
    )
    assert read_train_data([row]).rows == [row]


def test_real_kto_rows_are_read_with_both_labels():
    read = read_train_data(real_data("formats/llama-factory/kto_en_demo.json.gz"))
    assert read.layout == "unpaired_dialogue"
    assert {row.p for row in read.rows} == {0.0, 1.0}
    assert read.n_read == len(read.rows) + len(read.unusable)


def test_a_label_may_have_its_probability_beside_it():
    good, bad = ROWS["unpaired"][0], ROWS["unpaired"][0] | {"label": False}
    rows = [good | {"p": 0.8}, good | {"p": None}, bad | {"p": 0.3}, bad | {"p": 0.5}]
    assert [row.p for row in read_train_data(rows).rows] == [0.8, 1.0, 0.3, 0.5]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("unpaired", {"prompt": ""}),
        ("unpaired", {"prompt": []}),
        ("unpaired", {"prompt": [user(" ")]}),
        ("prompt_completion", {"prompt": "\n"}),
        ("prompt_completion", {"prompt": []}),
        ("ranking", {"prompt": []}),
        ("unpaired_dialogue", {"messages": [bot("Hi")]}),
        ("dialogue", {"messages": [bot("Hi"), user("q"), bot("a")]}),
    ],
)
def test_an_answer_to_nothing_is_counted_and_is_not_taken_for_raw_text(name, change):
    """A prompt without messages means raw text, which goes through no chat template."""
    rows = [ROWS[name][0]] * 9 + [ROWS[name][0] | change]
    read = read_train_data(rows)
    assert read.unusable == (("list: row 10", "empty prompt"),)
    assert len(read.rows) == 9
    assert all(row.prompt.messages for row in read.rows)
