"""What export writes, datasets and prefkit read back."""

from __future__ import annotations

import json

import datasets
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.core.errors import ConfigError, DataError
from prefkit.core.records import Comparison, Completion, Example, Message, Part, Prompt
from prefkit.formats.export import EXPORTS, export, export_trl
from prefkit.formats.load import load, read_examples
from prefkit.formats.schema import to_table
from prefkit.training.rows import read_rows

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)


def example(number: int, p: float = 0.8, **fields) -> Example:
    prompt = Prompt.make([Message.of("system", "be\u2028brief"), Message.of("user", f"q{number}")])
    sides = [[Message.of("assistant", f"{side} {number}")] for side in ("good", "bad")]
    return Example.make(prompt, *sides, p=p, tags={"n": str(number)}, **fields)[0]


EXAMPLES = [example(1, margin=1.5, weight=2.0), example(2, 0.5), example(3, 1.0)]
TABLE = to_table(EXAMPLES, Example)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_trl_files_are_read_by_datasets_and_by_prefkit(tmp_path, suffix):
    path = tmp_path / f"pairs.{suffix}"
    assert export_trl(TABLE, path) == {"n_examples": 3, "n_rows": 3}
    kind = "json" if suffix == "jsonl" else "parquet"
    read = datasets.load_dataset(
        kind, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert read.column_names == ["prompt", "chosen", "rejected", "p", "weight", "margin"]
    assert read[0]["chosen"] == [{"role": "assistant", "content": "good 1"}]
    assert read["margin"][:] == [1.5, None, None]
    for source in (path, read):
        again = load(source)
        for name in ("id", "p", "weight", "margin"):
            assert again.column(name).to_pylist() == TABLE.column(name).to_pylist()


@given(data=st.lists(st.tuples(TEXT, TEXT, TEXT, st.floats(0.5, 1)), min_size=1, max_size=4))
def test_any_text_survives_the_round_trip(tmp_path_factory, data):
    made = [
        Example.make(
            Prompt.make([Message.of("user", q)]),
            [Message.of("assistant", a)],
            [Message.of("assistant", b)],
            p=p,
        )[0]
        for q, a, b, p in data
    ]
    path = tmp_path_factory.mktemp("trip") / "pairs.jsonl"
    export_trl(to_table(made, Example), path)
    assert load(path).column("id").to_pylist() == [e.id for e in made]
    assert load(path).column("p").to_pylist() == [e.p for e in made]


def test_trl_accepts_the_file_as_preference_data(tmp_path):
    """TRL's own definition: is_conversational looks for role and content in prompt and chosen."""
    export_trl(TABLE, tmp_path / "pairs.jsonl")
    row = json.loads((tmp_path / "pairs.jsonl").read_text(encoding="utf-8").split("\n")[0])
    assert all(
        set(turn) == {"role", "content"} for side in ("prompt", "chosen") for turn in row[side]
    )


def test_jsonl_keeps_tags_votes_and_evidence(tmp_path):
    path = tmp_path / "all.jsonl"
    made = to_table([example(1, votes='[{"id": "v"}]', evidence='{"comparison": "c"}')], Example)
    export(made, path, to="jsonl")
    again = load(path)
    for name in ("id", "votes", "tags", "evidence"):
        assert again.column(name).to_pylist() == made.column(name).to_pylist()


def test_parquet_is_prefkits_own_table(tmp_path):
    export(TABLE, tmp_path / "own.parquet", to="parquet")
    assert load(tmp_path / "own.parquet") == TABLE


def test_kto_says_each_answer_once_a_label_and_leaves_ties_out(tmp_path):
    bad_prompt = Prompt.make([Message.of("user", "hard")])
    bad = Comparison.make(
        bad_prompt,
        *(Completion.make(bad_prompt.id, [Message.of("assistant", t)], "m") for t in ("x", "y")),
    )
    path = tmp_path / "kto.parquet"
    counts = export(to_table([*EXAMPLES, EXAMPLES[0]], Example), path, to="kto", both_bad=[bad])
    rows = pq.read_table(path).to_pylist()
    assert counts == {
        "n_examples": 4,
        "n_repeated": 2,
        "n_ties_left_out": 1,
        "n_both_bad": 1,
        "n_rows": 6,
    }
    labels = {row["completion"][0]["content"]: row["label"] for row in rows}
    assert labels == {
        "good 1": True,
        "bad 1": False,
        "good 3": True,
        "bad 3": False,
        "x": False,
        "y": False,
    }


@pytest.mark.parametrize("to", EXPORTS.names())
def test_what_text_cannot_hold_is_refused_and_nothing_is_left(tmp_path, to):
    image = Message("user", (Part("image", path="cat.png"),))
    sides = [[Message.of("assistant", t)] for t in "ab"]
    with_image, _ = Example.make(Prompt.make([image]), *sides)
    with_tools, _ = Example.make(Prompt.make([Message.of("user", "q")], tools="[]"), *sides)
    for made in (with_image, with_tools):
        with pytest.raises(DataError, match="cannot be exported"):
            export(to_table([EXAMPLES[0], made], Example), tmp_path / "out.jsonl", to=to)
    assert list(tmp_path.iterdir()) == []


def test_unknown_targets_and_names_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'trl'"):
        export(TABLE, tmp_path / "x.jsonl", to="trll")
    with pytest.raises(DataError, match=r"ends in \.jsonl or \.parquet"):
        export(TABLE, tmp_path / "x.csv")


def of(prompt: str, chosen: str, rejected: str, p: float = 0.9, **fields) -> Example:
    asked = Prompt.make([Message.of("user", prompt)], source="mine.jsonl")
    sides = [[Message.of("assistant", text)] for text in (chosen, rejected)]
    return Example.make(asked, *sides, p=p, **fields)[0]


LISTS = to_table(
    [of("q", "a", "b"), of("q", "b", "c", 0.7), of("r", "x", "y", 0.5), of("s", "m", "n")], Example
)


def test_a_ranked_file_is_training_data_best_first(tmp_path):
    counts = export(LISTS, tmp_path / "lists.jsonl", to="ranked")
    assert counts == {"n_examples": 4, "n_ties_left_out": 1, "n_tied": 0, "n_rows": 2}
    read = read_rows(str(tmp_path / "lists.jsonl"), "ranking")
    said = [[answer[0].text for answer in row.completions] for row in read.rows]
    assert said == [["a", "b", "c"], ["m", "n"]]
    first = json.loads((tmp_path / "lists.jsonl").read_text().split("\n")[0])
    assert first["scores"] == sorted(first["scores"], reverse=True)
    assert first["n_pairs"] == 2


def test_an_ultrafeedback_file_has_its_columns_and_scores_from_one_to_ten(tmp_path):
    evidence = '{"model_chosen": "good", "model_rejected": "bad"}'
    system = Prompt.make([Message.of("system", "be brief"), Message.of("user", "hm")])
    sides = [[Message.of("assistant", text)] for text in ("yes", "no")]
    with_system = Example.make(system, *sides, p=1.0)[0]
    made = to_table([of("q", "a", "b", evidence=evidence), with_system], Example)
    export(made, tmp_path / "uf.parquet", to="ultrafeedback")
    one, other = pq.read_table(tmp_path / "uf.parquet").to_pylist()
    assert (one["source"], one["instruction"]) == ("mine.jsonl", "q")
    assert one["models"] == ["good", "bad"]
    assert [c["response"] for c in one["completions"]] == ["a", "b"]
    scores = [c["overall_score"] for c in one["completions"]]
    assert 1 < scores[1] < 5.5 < scores[0] < 10
    assert sum(scores) == pytest.approx(11)
    assert {c["custom_system_prompt"] for c in one["completions"]} == {None}
    assert {c["custom_system_prompt"] for c in other["completions"]} == {"be brief"}


def test_dialogues_are_refused_as_one_instruction_and_kept_in_the_other_lists(tmp_path):
    turns = [Message.of(role, role) for role in ("user", "assistant", "user")]
    sides = [[Message.of("assistant", text)] for text in "ab"]
    made = to_table([Example.make(Prompt.make(turns), *sides)[0]], Example)
    with pytest.raises(DataError, match="3 turns cannot be exported as one instruction"):
        export(made, tmp_path / "uf.jsonl", to="ultrafeedback")
    assert not (tmp_path / "uf.jsonl").exists()
    for to in ("ranked", "ultrafeedback_binarized"):
        assert export(made, tmp_path / f"{to}.jsonl", to=to)["n_rows"] == 1


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_an_ultrafeedback_binarized_file_is_read_back_as_the_same_pairs(tmp_path, suffix):
    path = tmp_path / f"uf.{suffix}"
    export(TABLE, path, to="ultrafeedback_binarized")
    read = read_examples(path)
    assert read.layout == "full_conversation"
    for name in ("id", "p"):
        assert read.table.column(name).to_pylist() == TABLE.column(name).to_pylist()
    kind = "json" if suffix == "jsonl" else "parquet"
    row = datasets.load_dataset(
        kind, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )[0]
    assert row["messages"] == row["chosen"]
    assert (row["score_chosen"], row["score_rejected"]) == (8.0, 2.0)
