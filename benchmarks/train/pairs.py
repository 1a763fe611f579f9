"""The 64 pairs that both sides train on: dialogues of the HH kind, from real data or made up.

Real pairs are taken where a folder with them is given (they are never part of the repository).
Elsewhere text is made whose token counts follow the real pairs': a step's time depends on how
many tokens stand where, not on what they say.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

REAL = Path("prefs") / "hh_helpful_base_test.parquet"
N_PAIRS = 64
SEED = 5  # a sample with a median prompt of 114 tokens and answers of about 40

# Tokens of prompt (with the chat template), chosen and rejected at the 0, 10, … 100 % points of
# the 64 real pairs, by SmolLM2's tokenizer.
DECILES = {
    "prompt": (36, 41, 46, 60, 82, 114, 137, 208, 263, 317, 492),
    "chosen": (5, 12, 20, 29, 35, 49, 54, 71, 86, 102, 145),
    "rejected": (3, 8, 15, 21, 27, 35, 40, 48, 66, 116, 181),
}
WORDS = """
time person year way day thing man world life hand part child eye woman place work week case point
government company number group problem fact good new first last long great little own other old
right big high different small large next early young important few public bad same
"""
TURN = re.compile(r"(?:^|\n\n)(Human|Assistant): ")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pairs:
    """rows: prompt, chosen and rejected as lists of messages. tokens: medians of the three."""

    rows: list[Row]
    source: str
    tokens: dict[str, float]


def make_pairs(tokenizer: Any, real: Path | None, n: int = N_PAIRS) -> Pairs:
    """``n`` pairs: real where the folder ``real`` holds them, else made up to their lengths."""
    rows = None if real is None else _real(tokenizer, real / REAL, n)
    source = "HH helpful-base test" if rows else "made-up text with the lengths of HH"
    rows = rows or _made_up(tokenizer, n)
    lengths = token_lengths(tokenizer, rows)
    return Pairs(rows, source, {name: median(values) for name, values in lengths.items()})


def write_pairs(rows: Sequence[Row], path: Path) -> None:
    """One JSON object a line, in the given order: both sides read this file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def token_lengths(tokenizer: Any, rows: Sequence[Row]) -> dict[str, list[int]]:
    """Tokens of the prompt with template and generation prompt, and of each answer's text."""

    def answer(row: Row, side: str) -> int:
        text = row[side][-1]["content"]
        return _n_tokens(tokenizer, text) + 1  # the end of turn

    prompts = [
        tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        for row in rows
    ]
    return {
        "prompt": [_n_tokens(tokenizer, prompt) for prompt in prompts],
        "chosen": [answer(row, "chosen") for row in rows],
        "rejected": [answer(row, "rejected") for row in rows],
    }


def _n_tokens(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


# ---- real --------------------------------------------------------------------------------------


def _real(tokenizer: Any, path: Path, n: int) -> list[Row] | None:
    """A fixed sample of the parsed HH pairs, None where the file is not there."""
    if not path.is_file():
        return None
    import pyarrow.parquet as pq

    table = pq.read_table(path).to_pylist()
    usable = [row for line in table if (row := _row(line)) is not None]
    fits = [r for r in usable if max(sum(t) for t in _sizes(tokenizer, r)) <= 512]
    return random.Random(SEED).sample(fits, n)


def _row(line: dict[str, Any]) -> Row | None:
    """A pair with one prompt, two different answers and no empty turn; else None."""
    if line["prompt_rejected"] is not None or line["chosen"] == line["rejected"]:
        return None
    parts = TURN.split(line["prompt"])[1:]
    names = {"Human": "user", "Assistant": "assistant"}
    turns = [
        {"role": names[who], "content": text.strip()}
        for who, text in zip(parts[::2], parts[1::2], strict=True)
    ]
    answers = (line["chosen"].strip(), line["rejected"].strip())
    whole = all(turn["content"] for turn in turns) and all(answers)
    if not turns or not whole or turns[-1]["role"] != "user":
        return None
    return _pair(turns, *answers)


def _pair(prompt: list[dict[str, str]], chosen: str, rejected: str) -> Row:
    return {
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def _sizes(tokenizer: Any, row: Row) -> list[tuple[int, int]]:
    lengths = token_lengths(tokenizer, [row])
    return [(lengths["prompt"][0], lengths[side][0]) for side in ("chosen", "rejected")]


# ---- made up -----------------------------------------------------------------------------------


def _made_up(tokenizer: Any, n: int) -> list[Row]:
    """Dialogues of everyday words whose lengths are spread like the real ones'."""
    rng = random.Random(SEED)
    words = [word for word in WORDS.split() if _n_tokens(tokenizer, f" {word}") == 1]
    empty = _pair([{"role": "user", "content": ""}], "", "")
    frame = token_lengths(tokenizer, [empty])
    rows = []
    for _ in range(n):
        wanted = {name: _draw(rng, points) for name, points in DECILES.items()}
        text = {k: _words(rng, words, size - frame[k][0]) for k, size in wanted.items()}
        rows.append(
            _pair([{"role": "user", "content": text["prompt"]}], text["chosen"], text["rejected"])
        )
    return rows


def _words(rng: random.Random, words: Sequence[str], n: int) -> str:
    return " ".join(rng.choice(words) for _ in range(max(1, n)))


def _draw(rng: random.Random, points: Sequence[int]) -> int:
    """A length from the distribution whose deciles are ``points``, linear between them."""
    position = rng.random() * (len(points) - 1)
    low = int(position)
    return round(points[low] + (points[low + 1] - points[low]) * (position - low))
