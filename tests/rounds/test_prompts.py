import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.core.errors import DataError
from prefkit.core.records import Message, Prompt
from prefkit.rounds.prompts import RoundPrompts

PROMPTS = tuple(Prompt.make([Message.of("user", f"question {n}")]) for n in range(20))


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_tagged_prompts_are_held_out(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"q{n}", "tags": {"split": "heldout" if n < 3 else "train"}} for n in range(9)
    ]
    read = RoundPrompts.read(write(tmp_path / "p.jsonl", rows), n_heldout=5, seed=0)
    assert sorted(p.text for p in read.heldout) == ["q0", "q1", "q2"]
    assert len(read.training) == 6


def test_an_equal_prompt_is_never_on_both_sides(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"prompt": f"q{n % 6}"} for n in range(18)]
    read = RoundPrompts.read(write(tmp_path / "p.jsonl", rows), n_heldout=5, seed=0)
    assert len(read.heldout) == 2
    assert len({p.id for p in read.training + read.heldout}) == 6


def test_one_prompt_is_too_few(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{"prompt": "alone"}])
    with pytest.raises(DataError, match="too few"):
        RoundPrompts.read(path, n_heldout=1, seed=0)


@given(wanted=st.integers(1, 30), seed=st.integers(0, 5))
def test_rounds_ask_every_prompt_once_before_any_is_asked_again(wanted: int, seed: int) -> None:
    prompts = RoundPrompts(PROMPTS, ())
    asked: list[str] = []
    for number in range(1, 6):
        chosen, reused = prompts.of_round(number, wanted, seed)
        assert len({p.id for p in chosen}) == len(chosen) == min(wanted, len(PROMPTS))
        total = len(asked) + len(chosen)
        assert reused == max(0, total - len(PROMPTS)) - max(0, len(asked) - len(PROMPTS))
        asked += [p.id for p in chosen]
    assert len(set(asked)) == min(len(PROMPTS), len(asked))
