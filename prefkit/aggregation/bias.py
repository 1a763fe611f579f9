"""What pulls votes towards a side that is not its worth: the left, length, lists, code, headings.

Each has the plain share of the votes for a side that went its way, and the odds it gives with the
others held equal. Neither says why: a longer answer may well be the better one. The left side
alone is drawn by lot, so what it wins beyond half is bias.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prefkit.aggregation.interval import Z95, Estimate, share
from prefkit.aggregation.numeric import sigmoid
from prefkit.aggregation.table import TIE, A, Floats, Indices, VoteTable, vote_table
from prefkit.aggregation.votes import counted_votes
from prefkit.core.records import Comparison, Vote

MARKS: dict[str, re.Pattern[str]] = {
    "list": re.compile(r"^ {0,3}(?:[-*+]|\d{1,9}[.)])\s+\S", re.MULTILINE),
    "code": re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE),
    "heading": re.compile(r"^ {0,3}#{1,6}\s+\S", re.MULTILINE),
    "bold": re.compile(r"\*\*[^\s*][^*\n]*\*\*"),
}
ABOUT = {
    "left": "the answer on the left is chosen",
    "left_twice": "of hidden repeats where the same side of the screen was chosen both times, the "
    "left one was",
    "longer": "the longer answer is chosen",
    **{name: f"the only answer with a {name} in it is chosen" for name in MARKS},
    "code": "the only answer with a code block is chosen",
    "bold": "the only answer with words in bold is chosen",
}
Marks = tuple[float, ...]
PER_EFFECT = 10  # comparisons for each effect that is fitted
_STEPS = 50
_FLAT = 1e-9
_SURE = 15.0  # log-odds that no votes give, but a side that always wins


@dataclass(frozen=True, slots=True)
class Bias:
    """One pull.

    share: of ``n_votes`` votes on ``n_comparisons``, those that went its way; ½ is no pull.
    odds: the factor on the odds of an answer for it, the other pulls held equal; 1 is none. For
    length it is a factor for each doubling. None where there are too few comparisons, or where no
    vote ever went against it.
    """

    name: str
    about: str
    share: Estimate | None
    n_votes: int
    n_comparisons: int
    odds: Estimate | None


def bias_table(
    votes: Iterable[Vote],
    comparisons: Sequence[Comparison],
    marks: Mapping[str, Marks] | None = None,
) -> list[Bias]:
    """Each pull on the people's votes that stand. votes: with those on hidden repeats, if any.

    marks: comparison id → ``marks_of`` it, where the texts of ``comparisons`` are not at hand.
    """
    known = {c.id: marks_of(c) for c in comparisons} if marks is None else marks
    counted = counted_votes(comparisons, votes)
    people = [vote for vote in counted.votes if vote.rater_kind == "human"]
    table = vote_table(comparisons, _first_of_each(people))
    pulls = _pulls(table, known)
    odds = _odds(table, pulls)
    found = [_plain(name, table, pull, odds.get(name)) for name, pull in pulls.items()]
    return [found[0], _left_twice(people), *found[1:]]


def _first_of_each(votes: Iterable[Vote]) -> list[Vote]:
    """Each rater's first vote on each comparison: a repeat is no news of the comparison."""
    first: dict[tuple[str, str], Vote] = {}
    for vote in sorted(votes, key=lambda vote: (vote.at, vote.id)):
        first.setdefault((vote.rater, vote.comparison_id), vote)
    return list(first.values())


def marks_of(comparison: Comparison) -> Marks:
    """How much more a has than b: doublings of length, and for each of MARKS 1, 0 or −1."""
    a, b = comparison.a.text, comparison.b.text
    found = [float(bool(mark.search(a))) - float(bool(mark.search(b))) for mark in MARKS.values()]
    return (math.log2((len(a) + 1) / (len(b) + 1)), *found)


def _pulls(table: VoteTable, marks: Mapping[str, Marks]) -> dict[str, Floats]:
    """Name → how much more of it a has than b, by vote."""
    names = ("longer", *MARKS)
    of_item = np.array([marks[key] for key in table.items], dtype=np.float64)
    of_item = of_item.reshape(table.n_items, len(names))
    columns = {name: of_item[table.item, at] for at, name in enumerate(names)}
    return {"left": table.side.astype(np.float64), **columns}


def _plain(name: str, table: VoteTable, pull: Floats, odds: Estimate | None) -> Bias:
    used = (pull != 0) & (table.outcome != TIE)
    hit = ((table.outcome == A) == (pull > 0)).astype(np.float64)
    return Bias(
        name,
        ABOUT[name],
        share(hit[used], table.item[used]),
        int(used.sum()),
        len(np.unique(table.item[used])),
        odds,
    )


def _left_twice(people: Iterable[Vote]) -> Bias:
    """Where a rater saw a pair again with its sides swapped and chose the same side of the screen.

    The pair cannot have drawn them: in one of the two it was the other answer.
    """
    seen: defaultdict[tuple[str, str], list[Vote]] = defaultdict(list)
    for vote in people:
        if vote.choice in ("a", "b") and vote.shown_first is not None:
            seen[vote.comparison_id, vote.rater].append(vote)
    hits: list[float] = []
    items: list[str] = []
    for (comparison_id, _), votes in sorted(seen.items()):
        sides = {vote.shown_first for vote in votes}
        on_left = [vote.choice == vote.shown_first for vote in votes]
        if len(votes) == 2 and len(sides) == 2 and on_left[0] == on_left[1]:
            hits.append(float(on_left[0]))
            items.append(comparison_id)
    at = np.unique(np.array(items), return_inverse=True)[1].astype(np.int64)
    found = share(np.array(hits), at)
    return Bias("left_twice", ABOUT["left_twice"], found, len(hits), len(set(items)), None)


def _odds(table: VoteTable, pulls: dict[str, Floats]) -> dict[str, Estimate]:
    """Each pull's factor on the odds, from one logistic regression of all; empty if there is none.

    No intercept: which answer is a says nothing. A pull that no vote went against, or none with,
    is left out: it has odds beyond all bounds, and the others would have none for it.
    """
    went = 2 * table.share - 1
    columns = {
        name: pull
        for name, pull in pulls.items()
        if np.any(pull * went > 0) and np.any(pull * went < 0)
    }
    _, at = np.unique(table.item, return_inverse=True)
    n_items = int(at.max()) + 1 if len(at) else 0
    if not columns or n_items < PER_EFFECT * len(columns):
        return {}
    x = np.stack(list(columns.values()), axis=1)
    fitted = clustered_logit(x, table.share, at.astype(np.int64))
    if fitted is None:
        return {}
    beta, error = fitted
    return {
        name: Estimate(*(float(np.exp(b + step * e)) for step in (0.0, -Z95, Z95)))
        for name, b, e in zip(columns, beta, error, strict=True)
        if e < _SURE
    }


def clustered_logit(x: Floats, y: Floats, item: Indices) -> tuple[Floats, Floats] | None:
    """Coefficients of a logistic regression of ``y`` in [0, 1] on ``x`` (n, m), without intercept,
    and their standard errors, robust to votes on one item going together (Liang & Zeger 1986).

    item: 0 to the number of items − 1, by row. None where there is no maximum: a column follows
    from the others, or one side always wins.
    """
    beta = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        p = sigmoid(x @ beta)
        gradient = x.T @ (y - p)
        curvature = (x * (p * (1 - p))[:, None]).T @ x
        try:
            step = np.linalg.solve(curvature, gradient)
        except np.linalg.LinAlgError:
            return None
        beta = beta + step
        if np.abs(beta).max() > _SURE:
            return None
        if np.abs(step).max() < _FLAT:
            break
    else:
        return None
    if np.linalg.cond(curvature) > 1 / np.sqrt(np.finfo(float).eps):
        return None
    n_items = int(item.max()) + 1
    scores = np.zeros((n_items, x.shape[1]))
    np.add.at(scores, item, x * (y - sigmoid(x @ beta))[:, None])
    bread = np.linalg.inv(curvature)
    variance = bread @ (scores.T @ scores) @ bread * n_items / (n_items - 1)
    return beta, np.sqrt(np.diag(variance))
