"""Examples as the loop takes them: checked before anything is loaded, tokenised once, counted.

Kept + dropped = in; every drop has a reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from prefkit.core.errors import DataError
from prefkit.core.ids import content_id
from prefkit.core.records import Example
from prefkit.formats.schema import EXAMPLES, from_table
from prefkit.policy.template import TokenRow, encode_pair

SHOWN_FAULTS = 5


@dataclass(frozen=True, slots=True)
class PairRow:
    """A tokenised pair. p = P(chosen wins)."""

    id: str
    chosen: TokenRow
    rejected: TokenRow
    p: float
    weight: float
    margin: float | None

    @property
    def length(self) -> int:
        """Tokens of the prompt and both answers: what a shared row holds."""
        return len(self.chosen.ids) + self.rejected.n_completion


@dataclass(frozen=True, slots=True)
class Pairs:
    """The rows to train on. dropped: reason → rows; n_truncated: pairs whose ends were cut."""

    rows: tuple[PairRow, ...]
    dropped: dict[str, int]
    n_truncated: int

    def digest(self) -> str:
        """Changes with any token, label or weight, or with the order of rows."""
        return content_id(
            [[r.id, r.chosen.ids, r.rejected.ids, r.p, r.weight, r.margin] for r in self.rows]
        )


def read_examples(data: Any) -> list[Example]:
    """Examples from a table of EXAMPLES, a sequence of Example, or what formats.load takes.

    Raises DataError naming up to five faulty rows: p outside [0, 1], a negative weight, an empty
    prompt or answer, a missing column.
    """
    if isinstance(data, pa.Table) and set(EXAMPLES.names) <= set(data.column_names):
        examples = _from_table(data)
    elif isinstance(data, list | tuple) and all(isinstance(item, Example) for item in data):
        examples = list(data)
    else:
        from prefkit.formats.load import load

        examples = _from_table(load(data))
    faults = [fault for example in examples if (fault := _fault(example))]
    if faults:
        more = len(faults) - SHOWN_FAULTS
        lines = faults[:SHOWN_FAULTS] + ([f"and {more} more rows"] if more > 0 else [])
        raise DataError("\n".join(lines), hint="mend or drop these rows")
    return examples


def encode_examples(
    tokenizer: Any, examples: Sequence[Example], *, max_length: int, overlong: str, soft: bool
) -> Pairs:
    """Tokenise every pair and drop those that teach nothing, with a reason each.

    Reasons: identical (same messages), token_identical (same tokens), overlong, zero_weight, and
    for losses without a soft form no_preference (p = 0.5).
    """
    dropped: Counter[str] = Counter()
    rows: list[PairRow] = []
    n_truncated = 0
    for example in examples:
        reason = _reason_before_tokens(example, soft)
        pair = None
        if reason is None:
            pair = encode_pair(
                tokenizer, example.prompt, example.chosen, example.rejected, max_length=max_length
            )
            if pair is None or (pair.truncated and overlong == "drop"):
                reason = "overlong"
            elif pair.chosen == pair.rejected:
                reason = "token_identical"
        if reason is not None or pair is None:
            dropped[reason or "overlong"] += 1
            continue
        n_truncated += pair.truncated
        rows.append(
            PairRow(
                example.id, pair.chosen, pair.rejected, example.p, example.weight, example.margin
            )
        )
    return Pairs(tuple(rows), dict(sorted(dropped.items())), n_truncated)


def micro_batches(rows: Sequence[PairRow], size: int) -> list[list[PairRow]]:
    """Rows of like length together, ``size`` at most; the same rows always meet.

    Fixed company keeps a row's padding, and so its rounding, equal in the reference pass and in
    every epoch: at the start policy and reference agree bit for bit.
    """
    ordered = sorted(rows, key=lambda row: (row.length, row.id))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def _from_table(table: pa.Table) -> list[Example]:
    for name in ("id", "prompt", "chosen", "rejected", "p", "weight"):
        nulls = [i for i, value in enumerate(table[name].is_null().to_pylist()) if value]
        if nulls:
            raise DataError(f"training data: row {nulls[0]} has no {name!r}", hint="drop the row")
    return from_table(table.select(EXAMPLES.names), Example)


def _fault(example: Example) -> str | None:
    p, weight = example.p, example.weight
    if not 0 <= p <= 1:
        return f"row {example.id}: p is {p}; expected a probability in [0, 1]"
    if not (math.isfinite(weight) and weight >= 0):
        return f"row {example.id}: weight is {weight}; expected a number ≥ 0"
    if example.margin is not None and not math.isfinite(example.margin):
        return f"row {example.id}: margin is {example.margin}; expected a finite number"
    if not example.prompt.messages:
        return f"row {example.id}: the prompt has no messages"
    for side in ("chosen", "rejected"):
        messages = getattr(example, side)
        if not messages or messages[-1].role != "assistant":
            return f"row {example.id}: {side} does not end in an assistant message"
    return None


def _reason_before_tokens(example: Example, soft: bool) -> str | None:
    if example.chosen == example.rejected:
        return "identical"
    if example.weight == 0:
        return "zero_weight"
    if not soft and example.p == 0.5:
        return "no_preference"
    return None
