"""Rows as the loop takes them: checked before a model is loaded, tokenised once, counted.

Reading gives TrainRows of the kind that the loss learns from; encoding gives token trees. Kept +
dropped = in; every drop has a reason, and the ids of each reason are kept to be named.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from prefkit.core.errors import DataError
from prefkit.core.ids import canonical_json
from prefkit.core.records import Comparison, Messages, Prompt, TrainRow
from prefkit.formats.rows import first_faults
from prefkit.formats.train import TrainData, read_train_data
from prefkit.formats.values import tools_value
from prefkit.policy.template import (
    Exchange,
    Truncation,
    encode_tree,
    encode_trees,
    head_length,
    truncate,
)
from prefkit.policy.trees import Branch, Tree
from prefkit.training.conversion import (
    Target,
    as_target,
    likelier_first,
    target_for,
    undesirable,
    units,
)
from prefkit.training.split import with_own_prompt
from prefkit.training.votes import RowVote, read_votes


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A row in tokens with its label.

    source: the row with the label it came with, of pairs under ``hard_labels`` the likelier side
    first. tree: the answers in the order of ``source.completions``. p, weight, margin: as in
    source, p after ``hard_labels``. votes: the raw votes that take a side, () where there are none.
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

    dropped: reason → number of rows of the data; n_kept + Σ dropped are those read. n_truncated:
    rows that were cut. left_out: reason → answers of split pairs whose other answer is trained on.
    dropped_ids: reason → ids of rows and answers, but for rows that reading left out.
    """

    rows: tuple[Row, ...]
    dropped: dict[str, int] = field(default_factory=dict)
    n_truncated: int = 0
    dropped_ids: dict[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def n_kept(self) -> int:
        """Rows of the data that are here; a pair that became two answers is one."""
        return len(units([row.source for row in self.rows]))

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
    """Checked training rows of one kind; dropped: reason → rows of the file left out.

    target: the kind, None where they were left as they are.
    """

    rows: list[TrainRow]
    dropped: dict[str, int]
    read: TrainData
    target: Target | None = None


def read_rows(
    data: Any,
    target: Target | Sequence[Target] | None = None,
    *,
    layout: str | None = None,
    split: str = "train",
    revision: str | None = None,
    mapping: Mapping[str, str] | None = None,
    both_bad: Sequence[Comparison] = (),
    arguments: Mapping[str, Any] | None = None,
) -> ReadRows:
    """The rows of ``data`` as ``target`` wants them; target None is as they are, of several kinds
    the first that the rows can become.

    data, layout, split, revision, mapping: as in formats.train.read_train_data. Pairs become two
    unpaired answers with p and 1 − p, a ranking of two, or the demonstration of their likelier
    side; a ranking becomes the demonstration of its best; other changes are refused. both_bad:
    comparisons of which both answers are undesirable, rows of unpaired data only. arguments: for
    the chat template of every row, under its own. Raises DataError naming the first five faulty
    rows: p outside [0, 1], a weight or margin that is no number, an answer that is no answer, votes
    or tools that are not JSON.
    """
    read = read_train_data(data, layout=layout, split=split, revision=revision, mapping=mapping)
    faults = [f"{row.name}: {fault}" for row in read.rows if (fault := _fault(row))]
    if faults:
        raise DataError(first_faults(faults), hint="mend or drop these rows")
    dropped: dict[str, int] = {}
    for _, reason in read.unusable:
        dropped[reason] = dropped.get(reason, 0) + 1
    found = [with_own_prompt(row) for row in read.rows]
    if target is not None and not isinstance(target, str):
        target = target_for(found, target)
    if target is not None:
        found = [row for given in found for row in as_target(given, target)]
    if target == "unpaired":
        found += [row for comparison in both_bad for row in undesirable(comparison)]
    if arguments:
        found = [replace(row, arguments={**arguments, **row.arguments}) for row in found]
    return ReadRows(found, dropped, read, target)


def encode_rows(
    tokenizer: Any,
    rows: Sequence[TrainRow],
    *,
    max_length: int,
    overlong: Truncation = "answers",
    hard_labels: bool = False,
    chat: bool | None = None,
    dropped: Mapping[str, int] | None = None,
) -> Rows:
    """Every row that teaches something, in tokens.

    max_length: tokens of the prompt and an answer together; overlong: what becomes of longer rows
    (policy.template.truncate; "prompt" takes whole old turns first). hard_labels: the likelier
    label is certain. chat: as in encode_trees. dropped: what reading dropped, counted on.

    Reasons for a drop: zero_weight, no_preference (hard labels and p = ½), identical (the same
    answers, also where each of a pair is a row), empty (an answer without text), overlong,
    token_identical (the same tokens, also after truncation). Raises DataError naming the first
    five rows that the template refuses.
    """
    fates = _reasons(rows, hard_labels)
    taken = {
        i: likelier_first(row) if hard_labels else row
        for i, row in enumerate(rows)
        if fates[i] is None
    }
    exchanges = [Exchange(row.prompt, row.completions, row.arguments) for row in taken.values()]
    found: dict[int, Row] = {}
    faults: list[tuple[str, str | None]] = []
    trees = encode_trees(tokenizer, exchanges, chat=chat)
    for (i, row), exchange, tree in zip(taken.items(), exchanges, trees, strict=True):
        if not isinstance(tree, Tree):
            faults.append((f"{row.name}: {tree.message}", tree.hint))
            continue
        cut = _fitted(tokenizer, exchange, tree, max_length, overlong, chat)
        fates[i] = "overlong" if cut is None else _same_tokens(cut.branches)
        if cut is not None and fates[i] is None:
            found[i] = _row(row, cut, cut is not tree, hard_labels)
    if faults:
        raise DataError(first_faults([fault for fault, _ in faults]), hint=faults[0][1])
    for unit in units(rows):
        answers = [found[i].tree.branches[0] for i in unit if i in found]
        if (reason := _same_tokens(answers)) is not None:
            for i in unit:
                fates[i] = reason
                del found[i]
    return _counted(rows, found, fates, dropped or {})


def _counted(
    rows: Sequence[TrainRow],
    found: Mapping[int, Row],
    fates: Sequence[str | None],
    dropped: Mapping[str, int],
) -> Rows:
    """What was found, with counts: a pair of which no answer is left is one dropped row."""
    counts, left_out = Counter(dropped), Counter[str]()
    ids: dict[str, list[str]] = {}
    for unit in units(rows):
        reasons = [reason for i in unit if (reason := fates[i]) is not None]
        if len(reasons) == len(unit):
            counts[reasons[0]] += 1
        else:
            left_out.update(reasons)
        for i in unit:
            if (reason := fates[i]) is not None:
                ids.setdefault(reason, []).append(rows[i].id)
    kept = tuple(found.values())
    return Rows(
        kept,
        dict(sorted(counts.items())),
        sum(row.truncated for row in kept),
        {reason: tuple(names) for reason, names in sorted(ids.items())},
        dict(sorted(left_out.items())),
    )


def _row(row: TrainRow, tree: Tree, truncated: bool, hard: bool) -> Row:
    # Votes say which of two answers is better.
    pair = row.target == "pair"
    votes = read_votes(row.votes, row.evidence, row=row.id) if pair else ()
    p = float(row.p > 0.5) if hard else row.p
    return Row(row.id, tree, row.target, p, row.weight, row.margin, votes, row, truncated)


def _reasons(rows: Sequence[TrainRow], hard: bool) -> list[str | None]:
    """Why each row is dropped before it is tokenised, if it is."""
    reasons: list[str | None] = []
    for unit in units(rows):
        answers = [answer for i in unit for answer in rows[i].completions]
        same = len(answers) > 1 and all(answer == answers[0] for answer in answers)
        reasons += [_reason(rows[i], hard, same) for i in unit]
    return reasons


def _reason(row: TrainRow, hard: bool, same: bool) -> str | None:
    if row.weight == 0:
        return "zero_weight"
    if hard and row.p == 0.5:
        return "no_preference"
    if same:
        return "identical"
    return "empty" if any(_is_empty(answer) for answer in row.completions) else None


def _is_empty(answer: Messages) -> bool:
    return not any(
        message.text.strip() or message.tool_calls or any(p.kind != "text" for p in message.parts)
        for message in answer
        if message.role == "assistant"
    )


def _same_tokens(branches: Sequence[Branch]) -> str | None:
    """Why answers to one prompt teach nothing together, if they do not."""
    first, *others = branches or (None,)
    same = first and all(other.ids.tolist() == first.ids.tolist() for other in others)
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
    names = ("chosen", "rejected") if row.target == "pair" else ()
    for index, messages in enumerate(row.completions):
        if not messages or messages[-1].role != "assistant":
            name = names[index] if names else f"answer {index + 1}"
            return f"{name} does not end in an assistant message"
    return _unicode_fault(row) or _json_fault(row)


def _unicode_fault(row: TrainRow) -> str | None:
    """Half of a surrogate pair, which JSON can spell and no tokenizer takes."""
    names = ("chosen", "rejected") if row.target == "pair" else ()
    parts = [("prompt", row.prompt.messages)]
    for index, messages in enumerate(row.completions):
        parts.append((names[index] if names else f"answer {index + 1}", messages))
    for name, messages in parts:
        for message in messages:
            try:
                message.text.encode()
            except UnicodeEncodeError as error:
                return f"{name} is no valid Unicode: half a character at {error.start + 1}"
    return None


def _json_fault(row: TrainRow) -> str | None:
    """Text that has to be JSON and is not."""
    try:
        tools_value(row.prompt.tools)
    except ValueError as error:
        return str(error)
    texts: list[tuple[str, str | None]] = []
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
