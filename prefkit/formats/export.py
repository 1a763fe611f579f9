"""Examples → what other tools read. One entry a target in EXPORTS.

JSONL or Parquet by the name of the file. Every target's rows are plain lists and numbers: what
``datasets.load_dataset("json" | "parquet", data_files=…)`` and ``prefkit.load`` both read.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from prefkit.core.errors import DataError
from prefkit.core.files import replacing
from prefkit.core.records import Comparison, Example, Messages, Prompt
from prefkit.core.registry import Registry
from prefkit.formats.ranking import Ranked, ranked_lists
from prefkit.formats.schema import EXAMPLES, from_row
from prefkit.formats.tables import write_table

Record = Mapping[str, Any]
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_NUMBERS = [("p", pa.float64()), ("weight", pa.float64()), ("margin", pa.float64())]
TRL = pa.schema([("prompt", _MESSAGES), ("chosen", _MESSAGES), ("rejected", _MESSAGES), *_NUMBERS])
KTO = pa.schema([("prompt", _MESSAGES), ("completion", _MESSAGES), ("label", pa.bool_())])
JSONL = pa.schema([*TRL, ("tags", pa.string()), ("votes", pa.string()), ("evidence", pa.string())])
RANKED = pa.schema(
    [
        ("prompt", _MESSAGES),
        ("completions", pa.list_(_MESSAGES)),
        ("scores", pa.list_(pa.float64())),
        ("models", pa.list_(pa.string())),
        ("n_pairs", pa.int64()),
    ]
)
# The columns of openbmb/UltraFeedback that preferences can fill, and those of its pairs.
_SCORED = [("model", pa.string()), ("response", pa.string()), ("overall_score", pa.float64())]
_SYSTEM = [("custom_system_prompt", pa.string())]
ULTRAFEEDBACK = pa.schema(
    [
        ("source", pa.string()),
        ("instruction", pa.string()),
        ("models", pa.list_(pa.string())),
        ("completions", pa.list_(pa.struct([*_SCORED, *_SYSTEM]))),
    ]
)
BINARIZED = pa.schema(
    [
        ("prompt", pa.string()),
        ("prompt_id", pa.string()),
        ("chosen", _MESSAGES),
        ("rejected", _MESSAGES),
        ("messages", _MESSAGES),
        ("score_chosen", pa.float64()),
        ("score_rejected", pa.float64()),
        ("p", pa.float64()),
    ]
)
WITH_VOTES = ("jsonl", "parquet")


@dataclass(frozen=True, slots=True)
class Target:
    """One target: its rows out of examples (and both-bad comparisons), their schema."""

    name: str
    about: str
    schema: pa.Schema
    rows: Callable[[Iterable[Example], Sequence[Comparison], Counter[str]], Iterable[Record]]


EXPORTS: Registry[Target] = Registry("export target", "prefkit.exports")


def export(
    table: pa.Table, path: str | Path, *, to: str = "trl", both_bad: Sequence[Comparison] = ()
) -> dict[str, int]:
    """Write an Example table for another tool, whole or not at all; the counts.

    path: .jsonl or .parquet. to: a name in EXPORTS, or parquet (prefkit's own schema). both_bad:
    comparisons whose answers are both negatives; only kto uses them. DataError for another file
    name, and for images, audio or tool calls, which the targets' text columns cannot hold.
    """
    path = Path(path).expanduser()
    if path.suffix not in (".jsonl", ".parquet"):
        raise DataError(f"{path}: expected a name that ends in .jsonl or .parquet")
    if to == "parquet":
        if path.suffix != ".parquet":
            raise DataError(f"{path}: --to parquet writes a .parquet file")
        write_table(path, table.select(EXAMPLES.names))
        return {"n_examples": table.num_rows, "n_rows": table.num_rows}
    target = EXPORTS.get(to)
    counts: Counter[str] = Counter(n_examples=table.num_rows)
    rows = list(target.rows(_examples(table), both_bad, counts))
    if path.suffix == ".parquet":
        write_table(path, pa.Table.from_pylist(rows, schema=target.schema))
    else:
        write_jsonl(path, rows)
    return {**counts, "n_rows": len(rows)}


def export_trl(table: pa.Table, path: str | Path) -> dict[str, int]:
    """``export(..., to="trl")``: prompt, chosen, rejected as messages, and p, weight, margin."""
    return export(table, path, to="trl")


def write_jsonl(path: Path, rows: Iterable[Record]) -> None:
    """One object a line, whole or not at all; NaN is refused."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def _examples(table: pa.Table) -> Iterable[Example]:
    for batch in table.select(EXAMPLES.names).to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            yield from_row(row, Example)


def _turns(messages: Messages, example_id: str) -> list[dict[str, str]]:
    for message in messages:
        if message.tool_calls or any(part.kind != "text" for part in message.parts):
            raise DataError(
                f"example {example_id}: images, audio and tool calls cannot be exported as text",
                hint="--to parquet keeps them",
            )
    return [{"role": message.role, "content": message.text} for message in messages]


def _asked(prompt: Prompt, example_id: str) -> list[dict[str, str]]:
    if prompt.tools:
        raise DataError(
            f"example {example_id}: tools cannot be exported as text",
            hint="--to parquet keeps them",
        )
    return _turns(prompt.messages, example_id)


def _pair(example: Example) -> dict[str, Any]:
    return {
        "prompt": _asked(example.prompt, example.id),
        "chosen": _turns(example.chosen, example.id),
        "rejected": _turns(example.rejected, example.id),
        "p": example.p,
        "weight": example.weight,
        "margin": example.margin,
    }


def _trl_rows(
    examples: Iterable[Example], both_bad: Sequence[Comparison], counts: Counter[str]
) -> Iterable[Record]:
    return map(_pair, examples)


def _jsonl_rows(
    examples: Iterable[Example], both_bad: Sequence[Comparison], counts: Counter[str]
) -> Iterable[Record]:
    for example in examples:
        tags = json.dumps(dict(example.tags), ensure_ascii=False)
        extra = {"tags": tags, "votes": example.votes, "evidence": example.evidence}
        yield {**_pair(example), **extra}


def _kto_rows(
    examples: Iterable[Example], both_bad: Sequence[Comparison], counts: Counter[str]
) -> Iterable[Record]:
    """Chosen true, rejected false; a both-bad pair false twice; each answer once a label.

    An example with p = 0.5 says neither, and is counted as n_ties_left_out.
    """
    seen: set[str] = set()

    def once(example_id: str, prompt: Prompt, answer: Messages, label: bool) -> Iterable[Record]:
        row = {
            "prompt": _asked(prompt, example_id),
            "completion": _turns(answer, example_id),
            "label": label,
        }
        key = json.dumps(row, ensure_ascii=False)
        counts["n_repeated"] += key in seen
        if key not in seen:
            seen.add(key)
            yield row

    for example in examples:
        if example.p == 0.5:
            counts["n_ties_left_out"] += 1
            continue
        yield from once(example.id, example.prompt, example.chosen, True)
        yield from once(example.id, example.prompt, example.rejected, False)
    for pair in both_bad:
        counts["n_both_bad"] += 1
        for side in (pair.a, pair.b):
            yield from once(pair.id, pair.prompt, side.messages, False)


def _ranked_rows(
    examples: Iterable[Example], both_bad: Sequence[Comparison], counts: Counter[str]
) -> Iterable[Record]:
    """A list a prompt, best first; a list that is one tie is counted as n_ties_left_out."""
    for found in _in_order(examples, counts):
        place = f"on prompt {found.prompt.id}"
        yield {
            "prompt": _asked(found.prompt, place),
            "completions": [_turns(answer.messages, place) for answer in found.answers],
            "scores": list(found.scores),
            "models": [answer.model for answer in found.answers],
            "n_pairs": found.n_pairs,
        }


def _ultrafeedback_rows(
    examples: Iterable[Example], both_bad: Sequence[Comparison], counts: Counter[str]
) -> Iterable[Record]:
    """As openbmb/UltraFeedback: one instruction and its answers; no aspects, no critique."""
    for found in _in_order(examples, counts):
        system, instruction = _instruction(found.prompt)
        answers = [_one_turn(answer.messages, found.prompt.id) for answer in found.answers]
        yield {
            "source": found.prompt.source,
            "instruction": instruction,
            "models": [answer.model for answer in found.answers],
            "completions": [
                {
                    "model": answer.model,
                    "response": text,
                    "overall_score": _out_of_ten(score),
                    "custom_system_prompt": system,
                }
                for answer, text, score in zip(found.answers, answers, found.scores, strict=True)
            ],
        }


def _binarized_rows(
    examples: Iterable[Example], both_bad: Sequence[Comparison], counts: Counter[str]
) -> Iterable[Record]:
    """As ultrafeedback_binarized: whole dialogues; the scores are 10 p and 10 (1 − p)."""
    for example in examples:
        asked = _asked(example.prompt, example.id)
        chosen = [*asked, *_turns(example.chosen, example.id)]
        yield {
            "prompt": next((t["content"] for t in reversed(asked) if t["role"] == "user"), ""),
            "prompt_id": example.prompt.id,
            "chosen": chosen,
            "rejected": [*asked, *_turns(example.rejected, example.id)],
            "messages": chosen,
            "score_chosen": round(10 * example.p, 6),
            "score_rejected": round(10 * (1 - example.p), 6),
            "p": example.p,
        }


def _in_order(examples: Iterable[Example], counts: Counter[str]) -> Iterable[Ranked]:
    for found in ranked_lists(examples):
        if len(set(found.scores)) == 1:
            counts["n_ties_left_out"] += 1
        else:
            counts["n_tied"] += len(found.scores) - len(set(found.scores))
            yield found


def _out_of_ten(score: float) -> float:
    """A score from 1 to 10, UltraFeedback's range: 10 for P = 1 to beat the mean of the list."""
    return round(1 + 9 / (1 + math.exp(-score)), 4)


def _instruction(prompt: Prompt) -> tuple[str | None, str]:
    """The system prompt, if any, and the one user turn; DataError for a dialogue."""
    turns = _asked(prompt, f"on prompt {prompt.id}")
    system = turns[0]["content"] if turns[0]["role"] == "system" else None
    rest = turns[1:] if system is not None else turns
    if [turn["role"] for turn in rest] != ["user"]:
        raise DataError(
            f"prompt {prompt.id}: {len(rest)} turns cannot be exported as one instruction",
            hint="--to ranked or --to ultrafeedback_binarized keep dialogues",
        )
    return system, rest[0]["content"]


def _one_turn(answer: Messages, prompt_id: str) -> str:
    turns = _turns(answer, f"on prompt {prompt_id}")
    if len(turns) != 1:
        raise DataError(
            f"prompt {prompt_id}: an answer of {len(turns)} turns cannot be exported as one text",
            hint="--to ranked or --to ultrafeedback_binarized keep dialogues",
        )
    return turns[0]["content"]


for _target in (
    Target("trl", "TRL: prompt, chosen, rejected as messages; p, weight, margin", TRL, _trl_rows),
    Target("kto", "TRL KTO: prompt, completion, label", KTO, _kto_rows),
    Target("jsonl", "as trl, with tags, votes and evidence", JSONL, _jsonl_rows),
    Target("ranked", "a list a prompt: completions best first, scores", RANKED, _ranked_rows),
    Target(
        "ultrafeedback",
        "as openbmb/UltraFeedback: instruction, completions with overall_score",
        ULTRAFEEDBACK,
        _ultrafeedback_rows,
    ),
    Target(
        "ultrafeedback_binarized",
        "as ultrafeedback_binarized: whole dialogues, score_chosen, score_rejected",
        BINARIZED,
        _binarized_rows,
    ),
):
    EXPORTS.add(_target.name, _target)
