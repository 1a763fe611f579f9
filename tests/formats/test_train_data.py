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


@pytest.mark.parametrize("wrap", [list, pl.DataFrame, pa.Table.from_pylist])
def test_p_that_is_nan_is_named_and_not_read_as_certain(wrap):
    """Where a gap has a word of its own, null, NaN is a number that a computation lost."""
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b", "p": p} for p in (0.8, math.nan)]
    for read in (read_train_data, read_examples):
        with pytest.raises(DataError, match=r"row 2: p is nan"):
            read(wrap(rows))


NUMBERS = [(0.8, 2.0, 1.5), (None, None, None), (0.9, 1.0, None)]
GAPS = [
    {"prompt": "q", "chosen": "a", "rejected": f"b {i}", "p": p, "weight": weight, "margin": margin}
    for i, (p, weight, margin) in enumerate(NUMBERS)
]


def gaps_in(kind, folder):
    """GAPS as a file or a table."""
    path = folder / f"gaps.{kind}"
    frame = pd.DataFrame(GAPS)
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "jsonl":
        given = [{k: v for k, v in row.items() if v is not None} for row in GAPS]
        path.write_text("\n".join(map(json.dumps, given)))
    elif kind == "parquet":
        frame.to_parquet(path)
    return {"pandas": frame, "polars": pl.DataFrame(GAPS), "list": GAPS}.get(kind, path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "pandas", "polars", "list"])
def test_a_gap_is_read_alike_whatever_it_lies_in_and_is_counted(kind, tmp_path):
    read = read_train_data(gaps_in(kind, tmp_path))
    assert [(row.p, row.weight, row.margin) for row in read.rows] == [
        (0.8, 2.0, 1.5),
        (1.0, 1.0, None),
        (0.9, 1.0, None),
    ]
    assert read.n_without_p == 1


def test_rows_that_have_no_p_at_all_are_not_counted_as_gaps():
    assert read_train_data([{**row, "p": None} for row in GAPS]).n_without_p == 0


@pytest.mark.parametrize("name", ["p", "weight", "margin"])
@pytest.mark.parametrize("wrap", [list, pd.DataFrame, pl.DataFrame])
def test_a_number_that_is_text_is_refused_where_numbers_can_be_written(name, wrap):
    row = {"prompt": "q", "chosen": "a", "rejected": "b", name: "0.9"}
    with pytest.raises(DataError, match=f"row 1: {name} is '0.9'; expected a number"):
        read_train_data(wrap([row]))


def test_csv_knows_only_text_and_its_numbers_are_read(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("prompt,chosen,rejected,p\nq,a,b,0.9\n")
    assert read_train_data(path).rows[0].p == 0.9
    path.write_text("prompt,chosen,rejected,p\nq,a,b,sure\n")
    with pytest.raises(DataError, match=r"rows\.csv:2: p is 'sure'; expected a number"):
        read_train_data(path)


PLAIN = {"prompt": "q", "chosen": "a", "rejected": "b"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{**PLAIN, "chosen": 5}], "row 1: chosen is 5; expected text"),
        ([PLAIN, {**PLAIN, "rejected": 2.5}], "row 2: rejected is 2.5; expected text"),
        (
            [{**PLAIN, "chosen": 5, "rejected": 6}],
            "row 1: chosen is 5; expected text or messages; ",
        ),
        ([PLAIN, PLAIN, {**PLAIN, "prompt": {"a": 1}}], "row 3: prompt is {'a': 1}; expected text"),
        (
            [PLAIN, PLAIN, {**PLAIN, "prompt": "Human: hi"}],
            "row 3: prompt is 'Human: hi' (a transcript); expected text",
        ),
        (
            [{"question": q, "chosen": "a", "rejected": "b"} for q in (7, "q")],
            "row 1: question is 7; expected text",
        ),
        (
            [{"prompt": "q", "completion": ["x"], "label": True}],
            "row 1: completion is ['x']; expected text or messages",
        ),
        ([{**PLAIN, "chosen": None}] * 2, "row 1: chosen is missing; expected text"),
        ([{"prompt": "q", "completions": "x"}], "row 1: completions is 'x'; expected a list"),
        ([{"messages": "hello", "label": True}], "row 1: messages is 'hello'; expected messages"),
    ],
    ids=str,
)
def test_a_mistyped_cell_of_a_short_file_is_named_by_row_and_column(rows, said):
    with pytest.raises(DataError) as caught:
        read_train_data(rows)
    assert caught.value.message.startswith(f"list: {said}")
    assert "--map" in caught.value.hint


def test_a_column_of_another_kind_throughout_is_a_matter_of_layout():
    with pytest.raises(DataError, match=r"no known layout .*chosen: number"):
        read_train_data([{**PLAIN, "chosen": n} for n in range(20)])


def test_an_unknown_layout_lists_the_columns_as_the_file_calls_them():
    with pytest.raises(DataError) as caught:
        read_train_data([{"question": "q", "better": "a", "worse": "b"}])
    seen = caught.value.message.splitlines()[0]
    assert "prompt (column 'question'): text" in seen


@pytest.mark.parametrize("prompt", ["q", "\n\nHuman: q\n\nAssistant:"])
def test_tools_beside_plain_text_travel_and_are_checked(prompt):
    tools = [{"name": "weather"}]
    [row] = read_train_data([{**PLAIN, "prompt": prompt, "tools": tools}]).rows
    assert json.loads(row.prompt.tools) == tools
    for wrong in ("hammer", '{"name": "weather"}'):
        with pytest.raises(DataError, match="row 1: tools is"):
            read_train_data([{**PLAIN, "prompt": prompt, "tools": wrong}])


@pytest.mark.parametrize(("name", "row"), CASES)
def test_rows_are_called_what_their_data_call_them(name, row):
    data = [{**row, "id": "mine-1"}, {**row, "id": 7}]
    if name == "raw_pair":
        data = [{**one, "chosen": f"{one['chosen']} {i}"} for i, one in enumerate(data)]
    read = read_train_data(data)
    assert [found.id for found in read.rows] == ["mine-1", "7"]
    assert read.rows[1].name == "row 7 (list: row 2)"


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["a", "b", "a"], "'a' stands at list: row 1 and list: row 3"),
        (["1", 1, 2], "'1' stands at list: row 1 and list: row 2"),
        (["a", None, "b"], "list: row 2 has none"),
        (["a", " ", "b"], "list: row 2 has ' '"),
        (["a", 1.5, "b"], "list: row 2 has 1.5"),
        (["a", True, "b"], "list: row 2 has True"),
    ],
)
def test_ids_that_do_not_tell_rows_apart_are_told_and_left(ids, said, caplog):
    rows = [{**PLAIN, "rejected": f"b {i}", "id": own} for i, own in enumerate(ids)]
    read = read_train_data(rows)
    without = read_train_data([{k: v for k, v in row.items() if k != "id"} for row in rows])
    assert [row.id for row in read.rows] == [row.id for row in without.rows]
    assert said in caplog.text


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
