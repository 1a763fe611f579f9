"""Pairs of one prompt → its answers in one order, with a score each.

Scores are strengths of a Bradley–Terry model of the pairs' p (arXiv 2305.18290, eq. 1, with
p = σ(s_chosen − s_rejected)), so that a cycle, or an answer that met only weak ones, is weighed
rather than counted. Answers that no chain of pairs connects are never put into one list: nothing
is known of their order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from prefkit.core.records import Example, Messages, Prompt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
# Of the penalty ½ RIDGE Σ s²: p = 1 becomes a gap of 4.5; that of p = 0.8 loses 2 %.
RIDGE = 0.005
_STEPS = 100
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. model: what wrote it, "" where the pairs do not say."""

    messages: Messages
    model: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """Answers to one prompt, best first, each connected to the others by pairs.

    scores: log-odds, their mean is 0; two of the same score are tied. n_pairs: how many pairs
    they follow from.
    """

    prompt: Prompt
    answers: tuple[Answer, ...]
    scores: tuple[float, ...]
    n_pairs: int


@dataclass(slots=True)
class _Pairs:
    """All pairs as arrays to be; answers are numbered over all prompts."""

    answers: list[Answer] = field(default_factory=list[Answer])
    prompts: list[Prompt] = field(default_factory=list[Prompt])  # of each answer
    first: list[int] = field(default_factory=list[int])
    second: list[int] = field(default_factory=list[int])
    p: list[float] = field(default_factory=list[float])
    weight: list[float] = field(default_factory=list[float])


def ranked_lists(examples: Iterable[Example]) -> list[Ranked]:
    """One list for each set of connected answers, in the order in which they first appear.

    A pair with weight 0 connects nothing and is left out.
    """
    pairs = _gather(examples)
    if not pairs.first:
        return []
    first, second = np.array(pairs.first), np.array(pairs.second)
    scores = strengths(len(pairs.answers), first, second, np.array(pairs.p), np.array(pairs.weight))
    group = _connected(len(pairs.answers), pairs.first, pairs.second)
    scores -= (np.bincount(group, weights=scores) / np.maximum(np.bincount(group), 1))[group]
    n_pairs = np.bincount(group[first], minlength=int(group.max()) + 1)
    members: dict[int, list[int]] = {}
    for index, number in enumerate(group.tolist()):
        members.setdefault(number, []).append(index)
    return [
        _ranked(pairs, found, scores, int(n_pairs[number])) for number, found in members.items()
    ]


def strengths(n: int, first: Indices, second: Indices, p: Floats, weight: Floats) -> Floats:
    """Strengths s, (n,), that maximise Σ w [p log σ(d) + (1−p) log σ(−d)] − ½ RIDGE Σ s².

    d = s[first] − s[second]. Concave, so Newton's steps, halved where they go too far, end at the
    one optimum.
    """
    from scipy import sparse
    from scipy.sparse.linalg import spsolve

    s = np.zeros(n)
    value = _objective(s, first, second, p, weight)
    rows = np.concatenate([first, second, first, second])
    columns = np.concatenate([first, second, second, first])
    for _ in range(_STEPS):
        wins = 1.0 / (1.0 + np.exp(-(s[first] - s[second])))
        slope = weight * (p - wins)
        gradient = (
            np.bincount(first, weights=slope, minlength=n)
            - np.bincount(second, weights=slope, minlength=n)
            - RIDGE * s
        )
        if np.abs(gradient).max() < 1e-9:
            break
        bend = weight * wins * (1.0 - wins)
        cells = np.concatenate([bend, bend, -bend, -bend])
        hessian = sparse.csc_matrix((cells, (rows, columns)), shape=(n, n))
        step = cast(Any, spsolve)(hessian + RIDGE * sparse.identity(n, format="csc"), gradient)
        s, value = _uphill(s, np.atleast_1d(step), value, first, second, p, weight)
    return s


def _uphill(
    s: Floats, step: Floats, value: float, first: Indices, second: Indices, p: Floats, w: Floats
) -> tuple[Floats, float]:
    """The first of step, step/2, … that does not go down."""
    size = 1.0
    while size > 1e-6:
        tried = s + size * step
        reached = _objective(tried, first, second, p, w)
        if reached >= value:
            return tried, reached
        size /= 2
    return s, value


def _objective(s: Floats, first: Indices, second: Indices, p: Floats, weight: Floats) -> float:
    d = s[first] - s[second]
    # log σ(d) = −log(1 + e^−d), and log σ(−d) = log σ(d) − d.
    log_wins = -np.logaddexp(0.0, -d)
    return float(np.sum(weight * (log_wins - (1.0 - p) * d)) - 0.5 * RIDGE * np.sum(s * s))


def _gather(examples: Iterable[Example]) -> _Pairs:
    pairs = _Pairs()
    number: dict[tuple[str, Messages], int] = {}

    def of(example: Example, messages: Messages, model: str) -> int:
        key = (example.prompt.id, messages)
        if key not in number:
            number[key] = len(pairs.answers)
            pairs.answers.append(Answer(messages, model))
            pairs.prompts.append(example.prompt)
        return number[key]

    for example in examples:
        if example.weight == 0.0 or example.chosen == example.rejected:
            continue
        models = _models(example.evidence)
        pairs.first.append(of(example, example.chosen, models[0]))
        pairs.second.append(of(example, example.rejected, models[1]))
        pairs.p.append(example.p)
        pairs.weight.append(example.weight)
    return pairs


def _models(evidence: str | None) -> tuple[str, str]:
    """Who wrote chosen and rejected, as prefkit's own evidence says it."""
    if not evidence:
        return "", ""
    facts: Any = json.loads(evidence)
    if not isinstance(facts, dict):
        return "", ""
    said = cast(dict[str, Any], facts)
    return str(said.get("model_chosen") or ""), str(said.get("model_rejected") or "")


def _connected(n: int, first: Sequence[int], second: Sequence[int]) -> Indices:
    """For each answer the number of its group, groups numbered as they first appear."""
    parent = list(range(n))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for one, other in zip(first, second, strict=True):
        a, b = root(one), root(other)
        parent[max(a, b)] = min(a, b)
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(root(index), len(numbers)) for index in range(n)])


def _ranked(pairs: _Pairs, members: list[int], scores: Floats, n_pairs: int) -> Ranked:
    rounded = {index: round(float(scores[index]), _DIGITS) + 0.0 for index in members}
    # sorted is stable: answers of one score keep the order in which they were seen.
    best_first = sorted(members, key=lambda index: -rounded[index])
    return Ranked(
        pairs.prompts[members[0]],
        tuple(pairs.answers[index] for index in best_first),
        tuple(rounded[index] for index in best_first),
        n_pairs,
    )
