"""Rows as the loop takes them: checked before a model is loaded, tokenised once, counted.

Reading gives TrainRows of the kind that the loss learns from; encoding gives token trees. Kept +
dropped = in; every drop has a reason, and the ids of each reason are kept to be named.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from prefkit.core.errors import DataError
from prefkit.core.ids import canonical_json
from prefkit.core.records import Comparison, Messages, Prompt, TrainRow
from prefkit.formats.load import first_faults
from prefkit.formats.train import TrainData, read_train_data, row_id
from prefkit.policy.template import (
    Exchange,
    Truncation,
    encode_tree,
    encode_trees,
    head_length,
    truncate,
)
from prefkit.policy.trees import Tree
from prefkit.training.votes import RowVote, read_votes

Target = Literal["pair", "unpaired", "ranking", "demonstration"]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A row in tokens with its label.

    tree: the answers in the order of ``source.completions``. p, weight, margin: as in TrainRow,
    after ``hard_labels``. votes: the raw votes that take a side, () where there are none.
    truncated: whether it was cut to ``max_length``.
    """

    id: str
    tree: Tree
    target: Target
    p: float
    weight: float
    margin: float | None
    votes: tuple[RowVote, ...]
    source: TrainRow
    truncated: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows to train on.

    dropped: reason → number of rows; dropped_ids: reason → their ids, but for rows that reading
    left out. n_truncated: rows that were cut.
    """

    rows: tuple[Row, ...]
    dropped: dict[str, int] = field(default_factory=dict)
    n_truncated: int = 0
    dropped_ids: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def digest(self) -> str:
        """Changes with any token, mask, label or weight, and with the order of rows."""
        digest = hashlib.blake2b(digest_size=16)
        for row in self.rows:
            votes = [[vote.share, vote.error_rate] for vote in row.votes]
            sizes = [len(row.tree.prompt), *(len(branch.ids) for branch in row.tree.branches)]
            facts = [row.id, row.target, row.p, row.weight, row.margin, votes, sizes]
            digest.update(canonical_json(facts).encode() + b"\n")
            digest.update(row.tree.prompt.tobytes())
            for branch in row.tree.branches:
                digest.update(branch.ids.tobytes() + branch.scored.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class ReadRows:
    """Checked training rows of one kind; dropped: reason → rows of the file left out."""

    rows: list[TrainRow]
    dropped: dict[str, int]
    read: TrainData


def read_rows(
    data: Any,
    target: Target | None = None,
    *,
    layout: str | None = None,
    split: str = "train",
    revision: str | None = None,
    mapping: Mapping[str, str] | None = None,
    both_bad: Sequence[Comparison] = (),
) -> ReadRows:
    """The rows of ``data`` as ``target`` wants them; target None is as they are.

    data, layout, split, revision, mapping: as in formats.train.read_train_data. Pairs become two
    unpaired answers, a ranking of two, or the demonstration of their chosen side; a ranking becomes
    the demonstration of its best; other changes are refused. both_bad: comparisons of which both
    answers are undesirable, rows of unpaired data only. Raises DataError naming the first five
    faulty rows: p outside [0, 1], a weight or margin that is no number, an answer that is no
    answer, votes or tools that are not JSON.
    """
    read = read_train_data(data, layout=layout, split=split, revision=revision, mapping=mapping)
    faults = [f"{row.name}: {fault}" for row in read.rows if (fault := _fault(row))]
    if faults:
        raise DataError(first_faults(faults), hint="mend or drop these rows")
    dropped: dict[str, int] = {}
    for _, reason in read.unusable:
        dropped[reason] = dropped.get(reason, 0) + 1
    rows: list[TrainRow] = []
    for row in read.rows:
        changed = [row] if target in (None, row.target) else _as_target(row, target)
        rows += changed
        if not changed:
            dropped["no_preference"] = dropped.get("no_preference", 0) + 1
    if target == "unpaired":
        rows += [row for comparison in both_bad for row in _undesirable(comparison)]
    return ReadRows(rows, dropped, read)


def encode_rows(
    tokenizer: Any,
    rows: Sequence[TrainRow],
    *,
    max_length: int,
    overlong: Truncation = "answers",
    hard_labels: bool = False,
    arguments: Mapping[str, Any] | None = None,
    chat: bool | None = None,
    dropped: Mapping[str, int] | None = None,
) -> Rows:
    """Every row that teaches something, in tokens.

    max_length: tokens of the prompt and an answer together; overlong: what becomes of longer rows
    (policy.template.truncate; "prompt" takes whole old turns first). hard_labels: the likelier
    side of a pair is certain. arguments: given to every chat template, under a row's own. chat: as
    in encode_trees. dropped: what reading dropped, counted on.

    Reasons for a drop: zero_weight, no_preference (hard labels and p = ½), identical (the same
    answers), empty (an answer without text), overlong, token_identical (the same tokens, also
    after truncation). Raises DataError naming the first five rows that the template refuses.
    """
    drops = _Drops(dict(dropped or {}))
    kept = [row for row in rows if drops.keep(row, _reason(row, hard_labels))]
    if hard_labels:
        kept = [_certain(row) if row.target == "pair" else row for row in kept]
    exchanges = [
        Exchange(row.prompt, row.completions, {**(arguments or {}), **row.arguments})
        for row in kept
    ]
    found: list[Row] = []
    faults: list[tuple[str, str | None]] = []
    trees = encode_trees(tokenizer, exchanges, chat=chat)
    for row, exchange, tree in zip(kept, exchanges, trees, strict=True):
        if not isinstance(tree, Tree):
            faults.append((f"{row.name}: {tree.message}", tree.hint))
            continue
        cut = _fitted(tokenizer, exchange, tree, max_length, overlong, chat)
        if drops.keep(row, "overlong" if cut is None else _same_tokens(cut)) and cut is not None:
            found.append(_row(row, cut, cut is not tree))
    if faults:
        raise DataError(first_faults([fault for fault, _ in faults]), hint=faults[0][1])
    n_truncated = sum(row.truncated for row in found)
    return Rows(tuple(found), dict(sorted(drops.counts.items())), n_truncated, drops.named())


class _Drops:
    """Counts of dropped rows by reason, and their ids."""

    def __init__(self, counts: dict[str, int]) -> None:
        self.counts = counts
        self.ids: dict[str, list[str]] = {}

    def keep(self, row: TrainRow, reason: str | None) -> bool:
        """Whether the row stays; counted where it does not."""
        if reason is None:
            return True
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.ids.setdefault(reason, []).append(row.id)
        return False

    def named(self) -> dict[str, tuple[str, ...]]:
        """The ids of each reason."""
        return {reason: tuple(ids) for reason, ids in sorted(self.ids.items())}


def _row(row: TrainRow, tree: Tree, truncated: bool) -> Row:
    votes = read_votes(row.votes, row.evidence, row=row.id)
    return Row(row.id, tree, row.target, row.p, row.weight, row.margin, votes, row, truncated)


def _reason(row: TrainRow, hard: bool) -> str | None:
    """Why a row is dropped before it is tokenised, if it is."""
    if row.weight == 0:
        return "zero_weight"
    if hard and row.target == "pair" and row.p == 0.5:
        return "no_preference"
    if len(row.completions) > 1 and all(c == row.completions[0] for c in row.completions):
        return "identical"
    return "empty" if any(_is_empty(answer) for answer in row.completions) else None


def _is_empty(answer: Messages) -> bool:
    return not any(
        message.text.strip() or message.tool_calls or any(p.kind != "text" for p in message.parts)
        for message in answer
        if message.role == "assistant"
    )


def _certain(row: TrainRow) -> TrainRow:
    """The row with its likelier side first and p = 1."""
    if row.p >= 0.5:
        return row if row.p == 1 else replace(row, p=1.0)
    return replace(
        row,
        completions=row.completions[::-1],
        p=1.0,
        margin=None if row.margin is None else -row.margin,
        votes=None,  # they say a and b of the order before
    )


def _same_tokens(tree: Tree) -> str | None:
    first, *others = tree.branches
    same = all(other.ids.tolist() == first.ids.tolist() for other in others)
    return "token_identical" if others and same else None


def _fitted(
    tokenizer: Any,
    exchange: Exchange,
    tree: Tree,
    max_length: int,
    policy: Truncation,
    chat: bool | None,
) -> Tree | None:
    """The tree within ``max_length``, or None; a prompt loses whole turns before parts of one."""
    if tree.longest <= max_length or policy != "prompt":
        return truncate(tree, max_length, policy)
    for shorter in _without_oldest(exchange.prompt):
        exchange = replace(exchange, prompt=shorter)
        tree = encode_tree(
            tokenizer, shorter, exchange.completions, arguments=exchange.arguments, chat=chat
        )
        if tree.longest <= max_length:
            return tree
    n_head = head_length(tokenizer, exchange, tree, chat=chat)
    return truncate(tree, max_length, policy, n_head=n_head)


def _without_oldest(prompt: Prompt) -> Iterator[Prompt]:
    """The prompt without its oldest exchange, without its two oldest, … down to the last turns."""
    turns = [turn for turn in prompt.messages if turn.role != "system"]
    system = tuple(turn for turn in prompt.messages if turn.role == "system")
    starts = [i for i, turn in enumerate(turns) if turn.role == "user" and i]
    for start in starts:
        yield replace(prompt, messages=(*system, *turns[start:]))


def _fault(row: TrainRow) -> str | None:
    """What is wrong with a row, if anything is."""
    if not 0 <= row.p <= 1:
        return f"p is {row.p}; expected a probability in [0, 1]"
    if not (math.isfinite(row.weight) and row.weight >= 0):
        return f"weight is {row.weight}; expected a number ≥ 0"
    if row.margin is not None and not math.isfinite(row.margin):
        return f"margin is {row.margin}; expected a finite number"
    expected = {"pair": 2, "unpaired": 1, "demonstration": 1}.get(row.target)
    if expected is None and len(row.completions) < 2:
        return f"{len(row.completions)} answers; a ranking needs at least two"
    if expected is not None and len(row.completions) != expected:
        return f"{len(row.completions)} answers; a {row.target} row has {expected}"
    if row.target == "unpaired" and row.p not in (0, 1):
        return f"p is {row.p}; an unpaired answer is desirable (1) or not (0)"
    names = ("chosen", "rejected") if row.target == "pair" else ()
    for index, messages in enumerate(row.completions):
        if not messages or messages[-1].role != "assistant":
            name = names[index] if names else f"answer {index + 1}"
            return f"{name} does not end in an assistant message"
    return _json_fault(row)


def _json_fault(row: TrainRow) -> str | None:
    """Text that has to be JSON and is not."""
    texts = [("tools", row.prompt.tools)]
    for messages in (row.prompt.messages, *row.completions):
        texts += [("tool_calls", message.tool_calls) for message in messages]
    for name, text in texts:
        if text is not None:
            try:
                json.loads(text)
            except ValueError:
                return f"{name} is not JSON: {text[:40]!r}"
    if row.votes is not None:
        try:
            read_votes(row.votes, row.evidence, row=row.id)
        except DataError as error:
            return error.message
    return None


def _as_target(row: TrainRow, target: Target) -> list[TrainRow]:
    """The row as another kind of rows, none where it prefers neither side; DataError for kinds
    that it cannot become."""
    if row.target == "pair" and row.p == 0.5:
        return []
    best_first = _certain(row) if row.target == "pair" else row
    match row.target, target:
        case "pair", "unpaired":
            chosen, rejected = best_first.completions
            return [_alone(row, chosen, 1.0), _alone(row, rejected, 0.0)]
        case "pair", "ranking":
            return [replace(best_first, target="ranking", margin=None)]
        case (("pair" | "ranking"), "demonstration"):
            best = best_first.completions[:1]
            return [replace(best_first, completions=best, target=target, p=1.0, margin=None)]
        case _:
            raise DataError(
                f"{row.name}: {_KINDS[row.target]}, and this loss learns from {_KINDS[target]}",
                hint=f"choose a loss for {_KINDS[row.target]} (docs/losses.md), or other data",
            )


_KINDS: Mapping[str, str] = {
    "pair": "pairs",
    "unpaired": "single answers with a label",
    "ranking": "ranked lists",
    "demonstration": "answers to imitate",
}


def _alone(row: TrainRow, answer: Messages, label: float) -> TrainRow:
    """One side of a pair as an answer with a label; its id says which pair it comes from."""
    side = "chosen" if label else "rejected"
    return replace(
        row,
        id=f"{row.id}-{side}",
        completions=(answer,),
        target="unpaired",
        p=label,
        margin=None,
        votes=None,
    )


def _undesirable(comparison: Comparison) -> list[TrainRow]:
    """Both answers of a comparison that raters called bad."""
    prompt = comparison.prompt
    return [
        TrainRow(
            row_id(prompt, (side.messages,), "unpaired", 0.0),
            prompt,
            (side.messages,),
            "unpaired",
            p=0.0,
        )
        for side in (comparison.a, comparison.b)
    ]
