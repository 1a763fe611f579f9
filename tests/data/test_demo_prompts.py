"""The shipped prompts are what data/README.md says they are."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from prefkit.core.records import Message, Prompt
from prefkit.judging.rules import score
from prefkit_data import demo_prompts

ROOT = Path(__file__).parents[2]
FILE = ROOT / "data" / "prefkit_data" / "demo_prompts.jsonl"


def test_the_digest_in_the_readme_is_that_of_the_file():
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^([0-9a-f]{64})  (\S+)$", readme, re.MULTILINE))
    digests = {name: digest for digest, name in listed.items()}
    assert (
        digests["prefkit_data/demo_prompts.jsonl"] == hashlib.sha256(FILE.read_bytes()).hexdigest()
    )


def test_every_shipped_data_file_has_a_digest():
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    folder = ROOT / "data"
    for path in folder.rglob("*.jsonl"):
        assert f"  {path.relative_to(folder).as_posix()}\n" in readme


def test_the_script_writes_the_same_bytes(tmp_path):
    script = ROOT / "tools" / "make_demo_prompts.py"
    subprocess.run(
        [sys.executable, script, tmp_path / "made.jsonl"], check=True, capture_output=True
    )
    assert (tmp_path / "made.jsonl").read_bytes() == FILE.read_bytes()


def test_the_splits_have_the_sizes_the_readme_says_and_share_no_topic_and_no_prompt():
    train, heldout = demo_prompts("train"), demo_prompts("heldout")
    assert (len(train), len(heldout)) == (600, 256)
    assert demo_prompts() == heldout + train
    for key in ("topic", "split"):
        assert not {r["tags"][key] for r in train} & {r["tags"][key] for r in heldout}
    assert len({row["prompt"] for row in demo_prompts()}) == 856


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_half_the_prompts_limit_words_and_a_quarter_each_want_a_sentence_or_bullets(split):
    rows = demo_prompts(split)
    kinds = Counter(row["tags"]["format"].partition(":")[0] for row in rows)
    assert kinds == {
        "max_words": len(rows) // 2,
        "one_sentence": len(rows) // 4,
        "bullets": len(rows) // 4,
    }


def test_every_prompt_is_short_and_its_instruction_says_what_its_tag_says():
    for row in demo_prompts():
        assert len(row["prompt"].split()) <= 30
        kind, _, number = row["tags"]["format"].partition(":")
        instruction = re.split(r"(?<=[.?!]) ", row["prompt"])[-1]
        if kind == "max_words":
            assert f" {number} words" in instruction
        elif kind == "bullets":
            assert re.search(r"\b(three|3)\b.*bullet", instruction)
            assert number == "3"
        else:
            assert "sentence" in instruction


def test_the_rule_format_has_an_opinion_on_every_prompt():
    for row in demo_prompts():
        prompt = Prompt.make([Message.of("user", row["prompt"])], tags=row["tags"])
        assert score(prompt, "An answer of a few words.") is not None
