"""Tables of votes for tests: from lists, and drawn from raters whose faults are known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from prefkit.aggregation.table import VoteTable
from prefkit.core.records import Comparison, Completion, Message, Prompt, Vote

AT = datetime(2026, 1, 1, tzinfo=UTC)
SHARES = np.array([1.0, 0.0, 0.5, 0.5])
CHOICES = ("a", "b", "tie", "both_bad")


def table_of(
    item,
    rater,
    outcome,
    *,
    n_items=None,
    n_raters=None,
    level=None,
    side=None,
    share=None,
    machine=None,
    first=None,
    second=None,
) -> VoteTable:
    """A table of arrays; what is not given is unknown. Answers are of one comparison each."""
    item, rater, outcome = (np.asarray(values, dtype=np.int64) for values in (item, rater, outcome))
    n = len(item)
    n_items = n_items or int(item.max()) + 1
    n_raters = n_raters or int(rater.max()) + 1
    machine = np.zeros(n, dtype=bool) if machine is None else np.asarray(machine, dtype=bool)
    first = np.arange(n_items) if first is None else np.asarray(first)
    second = n_items + np.arange(n_items) if second is None else np.asarray(second)
    return VoteTable(
        items=tuple(f"item-{index:05d}" for index in range(n_items)),
        raters=tuple(f"rater-{index:03d}" for index in range(n_raters)),
        item=item,
        rater=rater,
        share=SHARES[outcome] if share is None else np.asarray(share, dtype=float),
        level=np.full(n, -1) if level is None else np.asarray(level),
        side=np.zeros(n, dtype=np.int64) if side is None else np.asarray(side),
        outcome=outcome,
        machine=machine,
        soft=machine if share is not None else np.zeros(n, dtype=bool),
        first=first,
        second=second,
        n_responses=int(max(first.max(), second.max())) + 1,
    )


@dataclass(frozen=True)
class Planted:
    """A table and what is true of it: the score of each item, each rater's error and lean."""

    table: VoteTable
    scores: np.ndarray
    errors: np.ndarray
    leans: np.ndarray


def planted(
    seed: int,
    *,
    n_items: int,
    k: int,
    errors,
    spread: float = 2.0,
    leans=None,
    certain: bool = False,
    n_responses: int | None = None,
) -> Planted:
    """k raters a comparison, drawn by lot, sides by lot.

    An ideal rater prefers a with σ(score + lean · side), or where certain by the score's sign;
    rater r says the opposite with probability errors[r]. n_responses: scores are differences of
    as many answers' scores, drawn at random.
    """
    rng = np.random.default_rng(seed)
    errors = np.asarray(errors, dtype=float)
    n_raters = len(errors)
    leans = np.zeros(n_raters) if leans is None else np.asarray(leans, dtype=float)
    first = second = None
    scores = rng.normal(0, spread, n_items)
    if n_responses:
        worth = rng.normal(0, spread / np.sqrt(2), n_responses)
        first = rng.integers(0, n_responses, n_items)
        second = (first + rng.integers(1, n_responses, n_items)) % n_responses
        scores = worth[first] - worth[second]
    item = np.repeat(np.arange(n_items), k)
    rater = rng.permuted(np.tile(np.arange(n_raters), (n_items, 1)), axis=1)[:, :k].ravel()
    side = rng.choice([-1, 1], n_items * k)
    p = 1 / (1 + np.exp(-(scores[item] + leans[rater] * side)))
    if certain:
        p = (scores[item] > 0).astype(float)
    p = p * (1 - errors[rater]) + (1 - p) * errors[rater]
    outcome = (rng.random(n_items * k) >= p).astype(np.int64)
    table = table_of(
        item, rater, outcome, n_items=n_items, n_raters=n_raters, side=side, first=first,
        second=second,
    )  # fmt: skip
    return Planted(table, scores, errors, leans)


def records_of(table: VoteTable) -> tuple[list[Comparison], list[Vote]]:
    """The comparisons and votes of a table; slots as drawn, whatever their ids."""
    prompt = Prompt.make([Message.of("user", "question")])  # one: answers may be shared
    comparisons = []
    for index in range(table.n_items):
        a, b = (
            Completion.make(prompt.id, [Message.of("assistant", f"answer {answer}")], "model")
            for answer in (int(table.first[index]), int(table.second[index]))
        )
        comparisons.append(Comparison(table.items[index], prompt, a, b, "test"))
    votes = [
        Vote(
            id=f"vote-{n:06d}",
            task_id=table.items[table.item[n]],
            comparison_id=table.items[table.item[n]],
            rater=table.raters[table.rater[n]],
            rater_kind="judge" if table.machine[n] else "human",
            choice=CHOICES[table.outcome[n]],
            at=AT,
            strength=None if table.level[n] < 0 else int(table.level[n]),
            p_a=float(table.share[n]) if table.soft[n] else None,
            shown_first={1: "a", -1: "b", 0: None}[int(table.side[n])],
        )
        for n in range(len(table))
    ]
    return comparisons, votes
