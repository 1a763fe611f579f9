"""docs/label.md by its own words: its file, its commands in order, its Python."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from store_cases import vote

from prefkit.store import VoteStore

PAGE = Path(__file__).parents[2] / "docs" / "label.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_page_does_what_it_says(tmp_path):
    (rows,) = blocks("jsonl")
    (tmp_path / "pairs.jsonl").write_text(rows)
    commands = [line[2:] for block in blocks("console") for line in block.splitlines()]
    assert commands[0] == "prefkit annotate pairs.jsonl"
    commands[0] += " --import-only"  # the browser's part is in tests/browser
    for number, command in enumerate(commands):
        _, *words = shlex.split(command, comments=True)
        done = subprocess.run(
            [sys.executable, "-m", "prefkit", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, (command, done.stderr)
        if number == 0:
            with VoteStore.open(tmp_path / "pairs.prefkit" / "votes.db") as store:
                kim = store.rater_id("kim")
                votes = [vote(c, kim, "b", strength=3) for c in store.comparisons()]
                store.add_votes(votes)
    (code,) = blocks("python")
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert printed.returncode == 0, printed.stderr
    # One vote for b at strength 3 weighs 1: p_a = (1 + 0) / (2 + 1).
    assert [line.split()[1:] for line in printed.stdout.splitlines()] == [["0.333", "1"]] * 2


def test_every_picture_of_the_page_is_there_and_small():
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", PAGE.read_text())
    assert pictures
    for name in pictures:
        assert (PAGE.parent / name).stat().st_size <= 300_000
