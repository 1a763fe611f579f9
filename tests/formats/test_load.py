"""Layouts: right or refused, split by role and message, every row accounted for."""

from __future__ import annotations

import json

import datasets
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_data import real_data

from prefkit.core.errors import DataError
from prefkit.core.records import Example, Message, Prompt
from prefkit.formats.load import load, read_examples
from prefkit.formats.schema import EXAMPLES, from_table


def user(text):
    return {"role": "user", "content": text}


def bot(text):
    return {"role": "assistant", "content": text}


def hh(*turns):
    names = ("Human", "Assistant")
    return "".join(f"\n\n{names[i % 2]}: {text}" for i, text in enumerate(turns))


LAYOUTS = {
    "strings": {"prompt": "q", "chosen": "good", "rejected": "bad"},
    "transcript_prompt": {"prompt": "Human: q", "chosen": "good", "rejected": "bad"},
    "hh": {"chosen": hh("q", "good"), "rejected": hh("q", "bad")},
    "messages": {"chosen": [user("q"), bot("good")], "rejected": [user("q"), bot("bad")]},
    "conversational": {"prompt": [user("q")], "chosen": [bot("good")], "rejected": [bot("bad")]},
    "full_conversation": {
        "prompt": "q",
        "chosen": [user("q"), bot("good")],
        "rejected": [user("q"), bot("bad")],
    },
}


def one(row, **options) -> Example:
    return from_table(load([row], **options), Example)[0]


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_example(name):
    loaded = read_examples([LAYOUTS[name]])
    example = from_table(loaded.table, Example)[0]
    expected, _ = Example.make(
        Prompt.make([Message.of("user", "q")]),
        [Message.of("assistant", "good")],
        [Message.of("assistant", "bad")],
    )
    assert loaded.layout == name
    assert example.id == expected.id
    assert example.prompt.id == expected.prompt.id


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize(
    "wrap",
    [
        datasets.Dataset.from_list,
        pd.DataFrame,
        pl.DataFrame,
        pa.Table.from_pylist,
        lambda rows: datasets.Dataset.from_list([*rows, *rows]).select([1]),
    ],
    ids=["dataset", "pandas", "polars", "arrow", "selected dataset"],
)
def test_every_kind_of_table_gives_the_same_example(name, wrap):
    table = load(wrap([LAYOUTS[name]]))
    assert table.schema == EXAMPLES
    assert table.column("id").to_pylist() == load([LAYOUTS[name]]).column("id").to_pylist()


@pytest.mark.parametrize("alias", ["question", "instruction"])
def test_the_prompt_may_have_another_name(alias):
    assert one({alias: "q", "chosen": "x", "rejected": "y"}).prompt.text == "q"


def test_a_mapping_renames_columns():
    row = {"frage": "q", "besser": "x", "schlechter": "y"}
    mapping = {"prompt": "frage", "chosen": "besser", "rejected": "schlechter"}
    assert one(row, mapping=mapping).chosen[0].text == "x"
    with pytest.raises(DataError, match=r"seen: frage: text; besser: text; schlechter: text"):
        load([row])
    with pytest.raises(DataError, match=r"no column 'fragen'.*did you mean 'frage'"):
        load([row], mapping={"prompt": "fragen"})


def test_an_unclear_prompt_is_refused():
    row = {"instruction": "sum up", "input": "a text", "chosen": "x", "rejected": "y"}
    with pytest.raises(DataError, match="the prompt may be 'instruction' or 'input'"):
        load([row])
    assert one(row, mapping={"prompt": "instruction"}).prompt.text == "sum up"
    assert one(row | {"input": ""}).prompt.text == "sum up"


def test_transcripts_beside_a_prompt_column_are_refused():
    row = {"prompt": "q", "chosen": hh("q", "x"), "rejected": hh("q", "y")}
    with pytest.raises(DataError, match="no known layout"):
        load([row])
    assert one(row, mapping={"prompt": ""}).prompt.text == "q"


def test_optional_columns_travel():
    row = LAYOUTS["strings"] | {"p": 0.8, "weight": 2, "margin": 1.5, "tags": {"kind": "test"}}
    example = one(row)
    assert (example.p, example.weight, example.margin) == (0.8, 2.0, 1.5)
    assert example.tags == {"kind": "test"}
    assert json.loads(example.evidence) == {"file": "list", "row": 1}


def test_p_below_half_swaps_the_sides_and_is_counted():
    loaded = read_examples([LAYOUTS["strings"] | {"p": 0.25, "margin": -1.0}])
    example = from_table(loaded.table, Example)[0]
    assert (example.chosen[0].text, example.p, example.margin) == ("bad", 0.75, 1.0)
    assert loaded.counts["n_flipped"] == 1


ANSWER = st.text("ab \n", max_size=6)


@given(shared=st.text("ab", max_size=4), one_end=ANSWER, other_end=ANSWER)
def test_a_common_beginning_of_two_answers_stays_in_the_answers(shared, one_end, other_end):
    chosen, rejected = (shared + one_end).strip(), (shared + other_end).strip()
    for row in (
        {"chosen": hh("q", chosen), "rejected": hh("q", rejected)},
        {"chosen": [user("q"), bot(chosen)], "rejected": [user("q"), bot(rejected)]},
    ):
        table = load([row])
        assert json.loads(json.dumps(table.column("prompt")[0].as_py()["messages"]))[0][
            "parts"
        ] == [{"kind": "text", "text": "q", "path": None}]
        rejected_first, chosen_first = (
            table.column(side)[0].as_py()[0]["parts"][0]["text"] for side in ("rejected", "chosen")
        )
        assert (chosen_first, rejected_first) == (chosen, rejected)


def test_dialogues_are_cut_at_the_last_shared_answer():
    row = {
        "chosen": hh("q", "same", "more", "good"),
        "rejected": hh("q", "same", "other", "bad"),
    }
    loaded = read_examples([row])
    example = from_table(loaded.table, Example)[0]
    assert [m.text for m in example.prompt.messages] == ["q"]
    assert [m.text for m in example.chosen] == ["same", "more", "good"]
    assert loaded.n_diverging == 1


def test_rows_that_are_no_pair_are_counted_and_placed():
    rows = [
        {"chosen": [user("q"), bot("x")], "rejected": [user("other"), bot("y")]},
        LAYOUTS["messages"],
    ]
    loaded = read_examples(rows)
    assert loaded.table.num_rows == 1
    assert loaded.unusable == (("list: row 1", "the two dialogues share no prompt"),)
    assert loaded.counts["n_read"] == 2
    assert list(loaded.rows) == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": 1.5}, "p is 1.5; expected a number from 0 to 1"),
        ({"p": "high"}, "p is 'high'; expected a number"),
        ({"weight": -1}, "weight is -1; expected a number of at least 0"),
        ({"chosen": None}, "chosen is missing; expected text"),
        ({"chosen": 3}, "chosen is 3; expected text"),
    ],
)
def test_a_malformed_cell_is_an_error_by_line(tmp_path, change, message):
    path = tmp_path / "pairs.jsonl"
    good = LAYOUTS["strings"]
    path.write_text("\n".join(json.dumps(row) for row in [*[good] * 9, good | change]))
    with pytest.raises(DataError) as caught:
        load(path)
    assert f"pairs.jsonl:10: {message}" in caught.value.message


def test_a_bad_role_is_an_error_by_row():
    rows = [LAYOUTS["conversational"]] * 9
    bad = LAYOUTS["conversational"] | {"prompt": [{"role": "human", "content": "q"}]}
    with pytest.raises(DataError, match=r"row 10: prompt\[0\]: role is 'human'; expected system"):
        load([*rows, bad])


def test_own_files_and_folders_load_as_they_are(tmp_path):
    from prefkit.formats.tables import write_table

    table = load([LAYOUTS["strings"] | {"p": 0.9}])
    write_table(tmp_path / "examples.parquet", table)
    assert load(tmp_path) == table
    assert load(tmp_path / "examples.parquet") == table
    assert load(from_table(table, Example)) == table
    assert load(table.to_pandas()).column("id") == table.column("id")


def test_a_saved_dataset_folder_loads(tmp_path):
    datasets.Dataset.from_list([LAYOUTS["hh"]]).save_to_disk(str(tmp_path / "saved"))
    assert load(tmp_path / "saved").num_rows == 1


def test_a_hub_id_offline_names_the_cache_and_the_mend():
    with pytest.raises(DataError, match=r"cannot be reached.*cache") as caught:
        load("nobody/no-such-set")
    assert "local file" in caught.value.hint


def test_a_hub_id_gets_its_split(monkeypatch):
    # The Hub itself is out of reach of the tests; what is checked is our call of the real API.
    seen = {}

    def load_dataset(name, *, split, revision):
        seen.update(name=name, split=split, revision=revision)
        return datasets.Dataset.from_list([LAYOUTS["full_conversation"]])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load("owner/set", split="train_prefs", revision="abc").num_rows == 1
    assert seen == {"name": "owner/set", "split": "train_prefs", "revision": "abc"}


def test_a_type_that_is_no_data_is_refused():
    with pytest.raises(DataError, match="cannot load a int"):
        load(3)
    with pytest.raises(DataError, match="is not one table"):
        load(datasets.DatasetDict({"train": datasets.Dataset.from_list([LAYOUTS["hh"]])}))


def test_anthropic_hh_loses_no_text_to_the_prompt():
    loaded = read_examples(real_data("formats/hh-rlhf/helpful-base-test.jsonl.gz"))
    raw = [
        json.loads(line) for line in _lines(real_data("formats/hh-rlhf/helpful-base-test.jsonl.gz"))
    ]
    assert loaded.layout == "hh"
    assert loaded.counts["n_read"] == loaded.table.num_rows == 2354
    for example, row in zip(from_table(loaded.table, Example), raw, strict=True):
        for side, messages in (("chosen", example.chosen), ("rejected", example.rejected)):
            texts = [m.text for m in (*example.prompt.messages, *messages)]
            spoken = hh(*texts) if len(messages) == 1 else None
            assert row[side].rstrip().endswith(messages[-1].text)
            if spoken and "\n\nHuman" not in "".join(texts):
                assert sum(len(t) for t in texts) <= len(row[side])
        assert example.prompt.messages[-1].role == "user"


def _lines(path):
    import gzip

    return gzip.decompress(path.read_bytes()).decode().strip().split("\n")


@pytest.mark.parametrize(
    "name", ["formats/llama-factory/dpo_en_demo.json.gz", "prompts/arena_hard_v2.0.parquet"]
)
def test_real_files_of_other_layouts_are_refused_with_what_was_seen(name):
    with pytest.raises(DataError, match="no known layout of preference pairs"):
        load(real_data(name))


def test_two_layouts_that_fit_are_refused(monkeypatch):
    from prefkit.formats import layouts

    entries = dict(layouts.LAYOUTS._entries)
    monkeypatch.setattr(layouts.LAYOUTS, "_entries", entries)
    layouts.layout("twin", "the same again", layouts.LAYOUTS.get("strings").needs)(
        layouts.read_strings
    )
    with pytest.raises(DataError, match="may be strings or twin"):
        load([LAYOUTS["strings"]])
    assert read_examples([LAYOUTS["strings"]], layout="twin").layout == "twin"


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ('"p": 1' + "0" * 400, "p is 1000.*expected a number"),
        ('"prompt": [{"role": "user", "content": "q", "name": 5}]', "name is 5; expected text"),
    ],
)
def test_a_cell_beyond_its_type_is_an_error_by_line(tmp_path, cells, message):
    answers = f'"chosen": {json.dumps([bot("a")])}, "rejected": {json.dumps([bot("b")])}'
    prompt = '"prompt": [{"role": "user", "content": "q"}]'  # of two equal keys the last one counts
    (tmp_path / "pairs.jsonl").write_text(f"{{{prompt}, {answers}, {cells}}}\n")
    with pytest.raises(DataError, match=rf"pairs\.jsonl:1: .*{message}"):
        load(tmp_path / "pairs.jsonl")


def test_a_lone_surrogate_is_replaced_and_what_is_paired_stays(tmp_path):
    text = r'{"prompt": "q \ud800 \ud83d\ude00", "chosen": "a", "rejected": "b"}'
    (tmp_path / "pairs.jsonl").write_text(text + "\n")
    (found,) = from_table(load(tmp_path / "pairs.jsonl"), Example)
    assert found.prompt.text == "q \ufffd \U0001f600"


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -1.0])
def test_a_weight_that_is_none_is_refused_in_our_own_files_too(weight):
    table = load([{"prompt": "q", "chosen": "a", "rejected": "b"}])
    at = table.column_names.index("weight")
    with pytest.raises(DataError, match=r"weight is .*at least 0"):
        load(table.set_column(at, "weight", pa.array([weight])))


def test_pairs_without_a_label_are_sent_to_be_labelled(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("prompt,a,b\nq,x,y\n")
    with pytest.raises(DataError) as raised:
        load(path)
    assert "prefkit annotate" in (raised.value.hint or "")
