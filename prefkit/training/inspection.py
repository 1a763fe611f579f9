"""Rows as training will see them, and what is odd about them, by row id.

Nothing is trained and no weight is loaded: a tokenizer is enough. What is listed here is what
teaches the wrong thing without any error: tokens that no engine writes, a missing end of turn,
pairs that say nothing, labels that follow length.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import Any, Literal

from prefkit.core.records import TrainRow
from prefkit.policy.template import (
    Exchange,
    Truncation,
    encode_prompt,
    merging,
    special_ids,
)
from prefkit.policy.trees import Branch, Tree
from prefkit.training.rows import Row, Rows, encode_rows

# What a finding means, in the order in which they are shown.
FINDINGS: Mapping[str, str] = {
    "boundary_merge": "a token would span the border of prompt and answer were they tokenised "
    "together; we tokenise apart, TRL does not",
    "prompt_differs": "the prompt in the row is not the one engines are asked (the template "
    "renders an answered dialogue differently)",
    "double_bos": "begins with two begin-of-text tokens (one stands in the text)",
    "double_end": "an answer holds its end-of-turn token twice",
    "end_on_one_side": "one answer ends with a special token and another does not",
    "identical": "the answers are the same; dropped",
    "token_identical": "the answers are the same in tokens (after truncation); dropped",
    "empty": "an answer without text; dropped",
    "overlong": "longer than max_length, and nothing to train on if cut; dropped",
    "zero_weight": "weight 0; dropped",
    "no_preference": "p = 0.5 says neither side; dropped",
    "truncated": "cut to max_length",
    "repeated": "the same prompt and answers stand in the data more than once",
}
BINS = ((0.0, 0.5), (0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.0))
How = Literal["prompt", "read", "trained"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a row's text: of the prompt, read in an answer, or trained on."""

    text: str
    how: How


@dataclass(frozen=True, slots=True)
class Inspection:
    """What training would make of the data.

    findings: kind (FINDINGS) → row ids, only kinds that occur. p: rows by p, in bins that hold
    their upper end. length_correlation: of chosen's minus rejected's trained tokens with 2p − 1,
    about zero, over each pair seen from both sides, in [−1, 1]; None without pairs that differ.
    longer_wins: share of unequal pairs with p ≠ ½ in which the longer answer is preferred.
    tokens: median trained tokens of an answer by its place, and of prompts.
    """

    rows: Rows
    n_read: int
    findings: Mapping[str, tuple[str, ...]]
    p: Mapping[str, int]
    length_correlation: float | None
    longer_wins: float | None
    tokens: Mapping[str, float]


def inspect_rows(
    tokenizer: Any,
    rows: Sequence[TrainRow],
    *,
    max_length: int,
    overlong: Truncation = "answers",
    dropped: Mapping[str, int] | None = None,
) -> Inspection:
    """The rows in tokens with everything that is odd about them; arguments as in encode_rows."""
    encoded = encode_rows(
        tokenizer, rows, max_length=max_length, overlong=overlong, dropped=dropped
    )
    kept = encoded.rows
    found: dict[str, Sequence[str]] = dict(encoded.dropped_ids)
    exchanges = [_exchange(row) for row in kept]
    merged = merging(tokenizer, exchanges)
    found["boundary_merge"] = [r.id for r, odd in zip(kept, merged, strict=True) if odd]
    special = special_ids(tokenizer)
    tests = {
        "prompt_differs": lambda row: _prompt_differs(tokenizer, row),
        "double_bos": lambda row: _double_bos(tokenizer, row.tree),
        "double_end": lambda row: any(_double_end(b, special) for b in row.tree.branches),
        "end_on_one_side": lambda row: _one_sided(row.tree, special),
        "truncated": lambda row: row.truncated,
    }
    for kind, is_odd in tests.items():
        found[kind] = [row.id for row in kept if is_odd(row)]
    times = Counter(_content(row) for row in rows)
    found["repeated"] = list(dict.fromkeys(row.id for row in rows if times[_content(row)] > 1))
    gaps = _length_gaps(kept)
    return Inspection(
        encoded,
        len(rows) + sum((dropped or {}).values()),
        {kind: tuple(found[kind]) for kind in FINDINGS if found.get(kind)},
        _p_counts(kept),
        _correlation(gaps),
        _longer_wins(gaps),
        _medians(kept),
    )


def _content(row: TrainRow) -> tuple[str, ...]:
    """Equal for rows of the same prompt and answers, whatever ids their data give them."""
    return row.prompt.id, row.target, *map(repr, row.completions)


def pieces(tokenizer: Any, tree: Tree) -> tuple[Piece, list[list[Piece]]]:
    """The prompt, and each answer in stretches that are trained on or only read."""
    answers: list[list[Piece]] = []
    for branch in tree.branches:
        marked = zip(branch.ids.tolist(), branch.scored.tolist(), strict=True)
        answers.append(
            [
                Piece(_text(tokenizer, [i for i, _ in run]), "trained" if scored else "read")
                for scored, run in groupby(marked, key=lambda pair: pair[1])
            ]
        )
    return Piece(_text(tokenizer, tree.prompt.tolist()), "prompt"), answers


def _text(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False))


def _exchange(row: Row) -> Exchange:
    return Exchange(row.source.prompt, row.source.completions, row.source.arguments)


def _prompt_differs(tokenizer: Any, row: Row) -> bool:
    """A cut prompt is meant to differ, and raw text has no prompt."""
    if row.truncated or not row.source.prompt.messages:
        return False
    asked = encode_prompt(tokenizer, row.source.prompt, arguments=row.source.arguments)
    return row.tree.prompt.tolist() != asked


def _double_bos(tokenizer: Any, tree: Tree) -> bool:
    bos = tokenizer.bos_token_id
    first = [*tree.prompt[:2].tolist(), *tree.branches[0].ids[:1].tolist()][:2]
    return bos is not None and first == [bos, bos]


def _double_end(branch: Branch, special: frozenset[int]) -> bool:
    """Whether a trained stretch holds the special token that it ends in once more."""
    marked = zip(branch.ids.tolist(), branch.scored.tolist(), strict=True)
    for scored, run in groupby(marked, key=lambda pair: pair[1]):
        ids = [i for i, _ in run]
        if scored and ids[-1] in special and ids[-1] in ids[:-1]:
            return True
    return False


def _one_sided(tree: Tree, special: frozenset[int]) -> bool:
    return len({int(branch.ids[-1]) in special for branch in tree.branches}) > 1


def _length_gaps(rows: Sequence[Row]) -> list[tuple[int, float]]:
    """(|chosen| − |rejected| in trained tokens, 2p − 1) of each pair."""
    gaps: list[tuple[int, float]] = []
    for row in rows:
        if row.target == "pair":
            chosen, rejected = row.tree.branches
            gaps.append((chosen.n_scored - rejected.n_scored, 2 * row.p - 1))
    return gaps


def _correlation(gaps: Sequence[tuple[int, float]]) -> float | None:
    """Pearson's r over the pairs and their mirror images, whose means are zero."""
    squares = sum(x * x for x, _ in gaps) * sum(y * y for _, y in gaps)
    return sum(x * y for x, y in gaps) / math.sqrt(squares) if squares else None


def _longer_wins(gaps: Sequence[tuple[int, float]]) -> float | None:
    decided = [(x > 0) == (y > 0) for x, y in gaps if x and y]
    return sum(decided) / len(decided) if decided else None


def _p_counts(rows: Sequence[Row]) -> dict[str, int]:
    """Rows by p: exactly 0, bins that hold their upper end, exactly ½ and exactly 1 apart."""
    counts: dict[str, int] = {}
    for row in rows:
        if row.target in ("pair", "unpaired"):
            name = _bin(row.p)
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def _bin(p: float) -> str:
    exact = {0.0: "0 (certain)", 0.5: "0.5 (tie)", 1.0: "1 (certain)"}
    if p in exact:
        return exact[p]
    low, high = next((low, high) for low, high in BINS if low < p <= high)
    return f"{low:g} to {high:g}"


def _medians(rows: Sequence[Row]) -> dict[str, float]:
    if not rows:
        return {}
    widest = max(len(row.tree.branches) for row in rows)
    names = ("chosen", "rejected") if all(row.target == "pair" for row in rows) else ()
    found = {"prompt": float(median(len(row.tree.prompt) for row in rows))}
    for place in range(widest):
        sizes = [r.tree.branches[place].n_scored for r in rows if len(r.tree.branches) > place]
        found[names[place] if names else f"answer {place + 1}"] = float(median(sizes))
    return found
