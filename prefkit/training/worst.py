"""The pairs that fit worst, written so that people can look at them again.

What a policy contradicts after training on it is often a wrong label. worst.jsonl is a preference
file as any other: ``prefkit annotate worst.jsonl`` asks blind which answer is better, ``prefkit
train`` and ``prefkit inspect`` read it too. Pairs of raw text are written without a prompt, for
the latter two: there is nothing to ask people about.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prefkit.core.errors import DataError
from prefkit.core.records import Message, Messages, TrainRow, text_of
from prefkit.formats.export import write_jsonl
from prefkit.training.metrics import sigmoid
from prefkit.training.monitor import ROWS

WORST = "worst.jsonl"
N_WORST = 50


@dataclass(frozen=True, slots=True)
class Fit:
    """How a pair stood when training saw it last.

    margin: β(Δ_chosen − Δ_rejected) before that step's update; model_p = σ(margin). contradiction:
    weight · KL(p ‖ σ(margin)) in nats, zero where the policy says what the label says. n_seen: how
    often training saw it; n_wrong: how often the margin's sign contradicted p.
    """

    id: str
    p: float
    weight: float
    margin: float
    loss: float | None
    contradiction: float
    n_seen: int
    n_wrong: int

    @property
    def model_p(self) -> float:
        """P(chosen wins) as the policy implies it."""
        return float(sigmoid(np.array(self.margin)))


def contradiction(margin: float, p: float, weight: float = 1.0) -> float:
    """weight · KL(p ‖ σ(margin)) in nats, ≥ 0."""
    cross = p * np.logaddexp(0, -margin) + (1 - p) * np.logaddexp(0, margin)
    own = -sum(q * np.log(q) for q in (p, 1 - p) if q > 0)
    return weight * max(float(cross - own), 0.0)


def worst_fits(path: Path, n: int = N_WORST) -> list[Fit]:
    """The ``n`` pairs of a rows.jsonl that their labels contradict most, worst first.

    Rows that are no pairs are passed over. Each is judged as it was seen last.
    """
    found: dict[str, Fit] = {}
    for row_id, p, weight, margin, loss in _pairs(path):
        before = found.get(row_id)
        wrong = p != 0.5 and margin != 0 and (margin > 0) != (p > 0.5)
        found[row_id] = Fit(
            row_id,
            p,
            weight,
            margin,
            loss,
            contradiction(margin, p, weight),
            1 + (before.n_seen if before else 0),
            int(wrong) + (before.n_wrong if before else 0),
        )
    return sorted(found.values(), key=lambda fit: (-fit.contradiction, fit.id))[:n]


def write_worst(out: Path, sources: Mapping[str, TrainRow], *, n: int = N_WORST) -> Path | None:
    """Write OUT/worst.jsonl from OUT/rows.jsonl; the path, or None where no row is a pair.

    sources: the rows by id, with their text.
    """
    rows = [_line(fit, sources[fit.id]) for fit in worst_fits(out / ROWS, n)]
    path = out / WORST
    if not rows:
        path.unlink(missing_ok=True)
        return None
    write_jsonl(path, rows)
    return path


def _pairs(path: Path) -> Iterator[tuple[str, float, float, float, float | None]]:
    """(id, p, weight, margin, loss) of each pair at each step, in the order of steps."""
    if not path.is_file():
        raise DataError(f"{path}: no such file", hint="it is written while a run trains")
    with open(path, encoding="utf-8") as lines:
        for raw in lines:
            line = json.loads(raw)
            if line["target"] != "pair":
                continue
            columns = (line[key] for key in ("id", "p", "weight", "margin", "loss"))
            for row_id, p, weight, margin, loss in zip(*columns, strict=True):
                if margin is not None:
                    yield row_id, p, weight, margin, loss


def _line(fit: Fit, row: TrainRow) -> dict[str, Any]:
    chosen, rejected = row.completions
    # Raw text has no prompt, and an empty one would be of no layout.
    raw = not row.prompt.messages
    sides: dict[str, Any] = (
        {"chosen": text_of(chosen), "rejected": text_of(rejected)}
        if raw
        else {
            "prompt": turns(row.prompt.messages),
            "chosen": turns(chosen),
            "rejected": turns(rejected),
        }
    )
    known = {
        "margin": row.margin,
        "tools": row.prompt.tools,
        "chat_template_kwargs": dict(row.arguments) or None,
        "evidence": row.evidence,
        # Raw pairs are read without.
        "votes": None if raw else row.votes,
    }
    return {
        "id": fit.id,
        **sides,
        "p": row.p,
        "weight": row.weight,
        "tags": dict(row.prompt.tags),
        **{name: value for name, value in known.items() if value is not None},
        "model_p": round(fit.model_p, 6),
        "reward_margin": fit.margin,
        "contradiction": round(fit.contradiction, 6),
        "n_seen": fit.n_seen,
        "n_wrong": fit.n_wrong,
    }


def turns(messages: Messages) -> list[dict[str, Any]]:
    """Messages as {role, content}, the way chat data is written and ``formats`` reads it."""
    return [_turn(message) for message in messages]


def _turn(message: Message) -> dict[str, Any]:
    plain = all(part.kind == "text" for part in message.parts) and len(message.parts) <= 1
    content: Any = message.text
    if not plain:
        content = [
            {"type": part.kind, "text": part.text}
            if part.kind == "text"
            else {"type": part.kind, "path": part.path}
            for part in message.parts
        ]
    turn: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls is not None:
        turn["tool_calls"] = message.tool_calls
    if message.name is not None:
        turn["name"] = message.name
    return turn
