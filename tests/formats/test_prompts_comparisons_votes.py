"""Prompts, pairs to label and votes out of files."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from real_data import real_data

from prefkit.core.errors import DataError
from prefkit.core.records import Comparison, Preference, Vote
from prefkit.formats.comparisons import PAIRS, load_comparisons, read_comparisons
from prefkit.formats.prompts import load_prompts, read_prompts
from prefkit.formats.schema import COMPARISONS, PREFERENCES
from prefkit.formats.tables import read_records, write_records
from prefkit.formats.votes import load_votes


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_text_prompts_are_one_a_line(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("first\n\nsecond \u2028 still second\nfirst\n")
    prompts, counts = read_prompts(path)
    assert [p.text for p in prompts] == ["first", "second \u2028 still second"]
    assert counts == {"n_read": 3, "n_prompts": 2, "n_repeated": 1}


def test_prompts_may_be_text_or_messages_with_system_and_tags(tmp_path):
    path = jsonl(
        tmp_path / "p.jsonl",
        [
            {"prompt": "q", "system": "be brief", "tags": {"split": "heldout"}},
            {"messages": [{"role": "user", "content": "q2"}]},
            {"question": "ignored where prompt is given", "prompt": "q3"},
        ],
    )
    first, second, third = load_prompts(path)
    assert [m.role for m in first.messages] == ["system", "user"]
    assert first.tags == {"split": "heldout"}
    assert (second.text, third.text) == ("q2", "q3")
    assert first.source == "p.jsonl"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": " "}, "the prompt is empty"),
        ({"prompt": None}, "the prompt is missing"),
        ({"messages": []}, "the prompt is empty"),
        ({"prompt": [{"role": "assistant", "content": "a"}]}, "ends with an assistant turn"),
        ({"prompt": [{"role": "bot", "content": "a"}]}, "role is 'bot'"),
        ({"prompt": 7}, "prompt is 7; expected a list of messages"),
    ],
)
def test_a_prompt_that_cannot_be_asked_is_an_error_by_line(tmp_path, row, message):
    path = jsonl(tmp_path / "p.jsonl", [{"prompt": "fine"}, row])
    with pytest.raises(DataError, match=r"p.jsonl:2: ") as caught:
        load_prompts(path)
    assert message in caught.value.message


def test_no_prompts_and_no_prompt_column_are_errors(tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(DataError, match="no prompts"):
        load_prompts(tmp_path / "empty.txt")
    with pytest.raises(DataError, match=r"no column 'prompt'.*columns: text"):
        load_prompts(jsonl(tmp_path / "p.jsonl", [{"text": "q"}]))
    assert load_prompts(tmp_path / "p.jsonl", mapping={"prompt": "text"})[0].text == "q"


@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("prompts/arena_hard_v2.0.parquet", 750),
        ("prompts/ifeval.jsonl", 540),
        ("prompts/koala180.jsonl", 180),
    ],
)
def test_real_prompt_files_load_whole(name, n):
    prompts, counts = read_prompts(real_data(name))
    assert counts["n_read"] == n == len(prompts) + counts["n_repeated"]


@pytest.mark.parametrize("pair", [*PAIRS, ("chosen", "rejected")])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_pairs_to_label_load_under_every_known_name(tmp_path, pair, suffix):
    import polars as pl

    path = tmp_path / f"pairs{suffix}"
    frame = pl.DataFrame({"prompt": ["q", "r"], pair[0]: ["x", "s"], pair[1]: ["y", "t"]})
    write = {".jsonl": frame.write_ndjson, ".csv": frame.write_csv, ".parquet": frame.write_parquet}
    write[suffix](path)
    found = load_comparisons(path)
    assert {c.prompt.text: {c.a.text, c.b.text} for c in found} == {
        "q": {"x", "y"},
        "r": {"s", "t"},
    }


def test_sides_are_blind(tmp_path):
    """A slot is the lower id: over many pairs chosen is about as often a as b."""
    rows = [{"prompt": f"q{n}", "chosen": "good", "rejected": "bad"} for n in range(200)]
    found = load_comparisons(jsonl(tmp_path / "p.jsonl", rows))
    assert 60 < sum(c.a.text == "good" for c in found) < 140
    swapped = [{"prompt": r["prompt"], "chosen": "bad", "rejected": "good"} for r in rows]
    assert [c.id for c in load_comparisons(jsonl(tmp_path / "p.jsonl", swapped))] == [
        c.id for c in found
    ]


def test_own_comparisons_keep_their_ids(tmp_path):
    path = jsonl(
        tmp_path / "p.jsonl", [{"prompt": "q", "a": "x", "b": "y", "model_a": "m", "model_b": "n"}]
    )
    found = load_comparisons(path)
    assert {c.model for c in (found[0].a, found[0].b)} == {"m", "n"}
    write_records(tmp_path / "comparisons.parquet", found, Comparison)
    assert load_comparisons(tmp_path / "comparisons.parquet") == found


def test_rows_that_cannot_be_compared_are_counted(tmp_path):
    rows = [
        {"prompt": "q", "a": "same", "b": "same"},
        {"prompt": "q", "a": "", "b": " "},
        {"prompt": "q", "a": "x", "b": "y"},
        {"prompt": "q", "a": "y", "b": "x"},
    ]
    found, counts = read_comparisons(jsonl(tmp_path / "p.jsonl", rows))
    assert len(found) == 1
    assert counts == {
        "n_read": 4,
        "identical answers": 1,
        "both answers empty": 1,
        "n_repeated": 1,
        "n_comparisons": 1,
    }
    with pytest.raises(DataError, match=r"no pair to compare: 1 identical answers$"):
        load_comparisons(jsonl(tmp_path / "p.jsonl", rows[:1]))


def test_unclear_or_missing_answers_are_refused(tmp_path):
    row = {"prompt": "q", "a": "x", "b": "y", "chosen": "x", "rejected": "y"}
    path = jsonl(tmp_path / "p.jsonl", [row])
    with pytest.raises(DataError, match="may be a and b or chosen and rejected"):
        load_comparisons(path)
    assert len(load_comparisons(path, mapping={"chosen": "", "rejected": ""})) == 1
    with pytest.raises(DataError, match="no prompt with two answers"):
        load_comparisons(jsonl(tmp_path / "q.jsonl", [{"prompt": "q", "left": "x", "right": "y"}]))


def test_real_crowd_pairs_load():
    path = real_data("multi/ukpconvarg1_dev_items.parquet")
    found, counts = read_comparisons(path)
    assert counts["n_read"] == sum(n for name, n in counts.items() if name != "n_read")
    assert len(found) > 1000


def test_votes_load_from_lines_and_from_our_own_file(tmp_path):
    path = jsonl(
        tmp_path / "votes.jsonl",
        [
            {
                "comparison_id": "c",
                "choice": "a",
                "strength": 2,
                "rater": "ann",
                "at": "2026-01-01T00:00:00Z",
            },
            {"comparison_id": "c", "choice": "b", "rater_kind": "judge", "p_a": 0.25},
            {"comparison_id": "c", "choice": "b"},
        ],
    )
    votes = load_votes(path)
    assert [v.strength for v in votes] == [2, None, None]
    assert len({v.id for v in votes}) == 3
    assert votes == load_votes(path)
    write_records(tmp_path / "votes.parquet", votes, Vote)
    assert load_votes(tmp_path / "votes.parquet") == votes
    assert pq.read_table(tmp_path / "votes.parquet").num_rows == 3


def test_an_id_that_is_not_given_follows_from_what_the_row_says(tmp_path):
    said = [{"comparison_id": "c", "choice": "a", "rater": rater} for rater in ("ann", "ben")]
    first = load_votes(jsonl(tmp_path / "votes.jsonl", said))
    # Next week's file of the same name: one row more in front, and ann said the same once more.
    later = [{"comparison_id": "d", "choice": "b", "rater": "ann"}, *said, said[0]]
    second = load_votes(jsonl(tmp_path / "votes.jsonl", later))
    assert [vote.id for vote in second[1:3]] == [vote.id for vote in first]
    assert len({vote.id for vote in second}) == 4


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"choice": "left"},
            "choice is 'left'; expected a, b, tie, both_bad, invalid, skip or withdrawn",
        ),
        ({"choice": "a", "strength": 4}, "strength is 4; expected a number from 0 to 3"),
        ({"choice": "a", "strength": 1.5}, "strength is 1.5; expected 0, 1, 2 or 3"),
        ({"choice": "a", "p_a": 2}, "p_a is 2; expected a number from 0 to 1"),
        ({"choice": "a", "at": "2026-01-01T00:00:00"}, "expected a time with its zone"),
        (
            {"choice": "a", "rater_kind": "dog"},
            "rater_kind is 'dog'; expected human, judge, reward or rule",
        ),
        ({"choice": "a", "comparison_id": ["c"]}, "comparison_id is ['c']; expected text"),
        ({"choice": "a", "id": {"x": 1}}, "id is {'x': 1}; expected text"),
        ({"choice": "a", "active_ms": 1e300}, "active_ms is 1e+300; expected a number from 0"),
        ({"choice": "a", "at": "0001-01-01T00:00:00+10:00"}, "expected a year from 2"),
        ({"choice": "a", "comparison_id": None}, "comparison_id is missing"),
        ({"choice": "a", "shown_first": "left"}, "shown_first is 'left'; expected a or b"),
        ({"choice": "a", "guideline_version": ["v"]}, "guideline_version is ['v']; expected text"),
    ],
)
def test_a_malformed_vote_is_an_error_by_line(tmp_path, row, message):
    path = jsonl(tmp_path / "votes.jsonl", [{"comparison_id": "c", **row}])
    with pytest.raises(DataError) as caught:
        load_votes(path)
    assert caught.value.message.startswith(f"{path}:1: ")
    assert message in caught.value.message


def test_answers_that_only_call_tools_are_compared(tmp_path):
    def calls(name):
        return [{"role": "assistant", "content": None, "tool_calls": [{"name": name}]}]

    row = {"prompt": "q", "a": calls("one"), "b": calls("two")}
    assert len(load_comparisons(jsonl(tmp_path / "p.jsonl", [row]))) == 1


def test_own_comparisons_without_a_value_are_refused(tmp_path):
    empty = {name: pa.array([None], COMPARISONS.field(name).type) for name in COMPARISONS.names}
    pq.write_table(pa.table(empty), tmp_path / "comparisons.parquet")
    with pytest.raises(DataError, match="column 'id' has rows without a value"):
        load_comparisons(tmp_path / "comparisons.parquet")


def test_a_table_with_cells_of_another_type_is_named(tmp_path):
    path = tmp_path / "preferences.parquet"
    pq.write_table(pa.table({name: ["x"] for name in PREFERENCES.names}), path)
    with pytest.raises(DataError, match=r"preferences\.parquet: not a file of preferences"):
        read_records(path, Preference)
