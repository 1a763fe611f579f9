"""The pairs of `make bench-train` have the lengths that the protocol names, made up or real."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.train.pairs import DECILES, make_pairs, token_lengths, write_pairs


class Words:
    """A tokenizer of one token a word, and of four tokens a turn around it."""

    def __call__(self, text, add_special_tokens=True):
        assert not add_special_tokens
        return {"input_ids": text.split()}

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        assert add_generation_prompt
        assert not tokenize
        return " ".join(f"< {m['role']} > {m['content']} ." for m in messages) + " < assistant >"


@pytest.fixture
def hh(tmp_path):
    """Four lines of parsed HH: one good, one with two prompts, one of equal answers, one empty."""
    prompt = "Human: Hi there\n\nAssistant: Hello\n\nHuman: Tell me more"
    lines = [
        {"prompt": prompt, "prompt_rejected": None, "chosen": " Yes ", "rejected": "No"},
        {"prompt": prompt, "prompt_rejected": "Human: Hi", "chosen": "Yes", "rejected": "No"},
        {"prompt": prompt, "prompt_rejected": None, "chosen": "Yes", "rejected": "Yes"},
        {"prompt": prompt, "prompt_rejected": None, "chosen": "Yes", "rejected": " "},
    ]
    (tmp_path / "prefs").mkdir()
    table = pa.Table.from_pylist(lines, schema=pa.schema([(k, pa.string()) for k in lines[0]]))
    pq.write_table(table, tmp_path / "prefs" / "hh_helpful_base_test.parquet")
    return tmp_path


def test_made_up_lengths_follow_the_deciles():
    pairs = make_pairs(Words(), None, 2000)
    assert pairs.source.startswith("made-up")
    for name, values in token_lengths(Words(), pairs.rows).items():
        ordered = sorted(values)
        for tenth in range(1, 10):
            middle = ordered[len(ordered) * tenth // 10]
            assert middle == pytest.approx(DECILES[name][tenth], rel=0.15, abs=3), (name, tenth)


def test_made_up_pairs_are_the_same_every_time_and_differ_from_one_another():
    rows = make_pairs(Words(), None, 64).rows
    assert rows == make_pairs(Words(), None, 64).rows
    assert len({json.dumps(row) for row in rows}) == 64
    assert all(row["chosen"] != row["rejected"] for row in rows)


def test_real_pairs_are_split_by_role_and_only_whole_ones_are_taken(hh):
    pairs = make_pairs(Words(), hh, 1)
    assert pairs.source == "HH helpful-base test"
    assert pairs.rows == [
        {
            "prompt": [
                {"role": "user", "content": "Hi there"},
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": "Tell me more"},
            ],
            "chosen": [{"role": "assistant", "content": "Yes"}],
            "rejected": [{"role": "assistant", "content": "No"}],
        }
    ]


def test_without_the_file_text_is_made_up(tmp_path):
    assert make_pairs(Words(), tmp_path, 8).source.startswith("made-up")


def test_both_sides_read_the_same_lines(tmp_path):
    rows = make_pairs(Words(), None, 3).rows
    write_pairs(rows, tmp_path / "pairs.jsonl")
    lines = (tmp_path / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows
