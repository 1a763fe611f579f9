"""Vote share with one virtual vote for each side (Laplace's rule of succession).

    p_a = (1 + Σ w[a] + ½ Σ w[tie]) / (2 + Σ w)

w by strength: 1 → 0.5 (slightly), 2 → 0.75 (better), 3 → 1 (much better); a tie has w = 1. A
vote without a strength counts like "better", 0.75: the middle of what it may have meant. A
machine's p_a is a vote of w = 1 split between the sides, p_a to a and 1 − p_a to b: its
certainty is in p_a already, so its strength is not used a second time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from prefkit.aggregation.methods import aggregator
from prefkit.core.errors import ConfigError
from prefkit.core.records import Comparison, Preference, Vote

WEIGHTS: Mapping[int | None, float] = {1: 0.5, 2: 0.75, 3: 1.0, None: 0.75}
VERSION = "1"
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@aggregator("vote_share", paper="Laplace 1814; strengths as in HelpSteer2-Preference (2410.01257)")
def vote_share(
    comparisons: Sequence[Comparison], votes: Sequence[Vote], *, params: Mapping[str, Any]
) -> list[Preference]:
    """Share of the votes, weighted by strength, with one virtual vote for each side.

    margin is logit(p_a) in nats, what a soft DPO loss drives β·δ to. weight is 1 for every row:
    how sure a preference is stands in p_a. disagreement is the mean of |x_i − x_j| over pairs of
    votes, x = P(a) of one vote.
    """
    if params:
        raise ConfigError(f"vote_share takes no parameters, got {', '.join(sorted(params))}")
    slot = {comparison.id: index for index, comparison in enumerate(comparisons)}
    at = np.array([slot[vote.comparison_id] for vote in votes], dtype=np.int64)
    share = np.array([share_of_a(vote) for vote in votes], dtype=np.float64)
    weight = np.array([weight_of(vote) for vote in votes], dtype=np.float64)
    n = len(comparisons)
    total = np.bincount(at, weights=weight, minlength=n)
    p_a = (1.0 + np.bincount(at, weights=weight * share, minlength=n)) / (2.0 + total)
    n_votes = np.bincount(at, minlength=n)
    disagreement = mean_pairwise_disagreement(at, share, n)
    evidence = _votes_json(at, votes, n)
    return [
        Preference(
            comparison_id=comparison.id,
            p_a=float(p_a[i]),
            n_votes=int(n_votes[i]),
            disagreement=float(disagreement[i]) if n_votes[i] > 1 else None,
            weight=1.0,
            margin=float(np.log(p_a[i]) - np.log1p(-p_a[i])),
            votes=json.dumps(evidence[i], ensure_ascii=False),
            method="vote_share",
            version=VERSION,
        )
        for i, comparison in enumerate(comparisons)
        if n_votes[i]
    ]


def share_of_a(vote: Vote) -> float:
    """What one vote gives to a, in [0, 1]."""
    if _is_soft(vote):
        return vote.p_a or 0.0
    return {"a": 1.0, "tie": 0.5, "b": 0.0}[vote.choice]


def weight_of(vote: Vote) -> float:
    """How much one vote counts. A side with strength 0 contradicts itself: as if not given."""
    if _is_soft(vote) or vote.choice == "tie":
        return 1.0
    return WEIGHTS[vote.strength or None]


def _is_soft(vote: Vote) -> bool:
    return vote.p_a is not None and vote.rater_kind != "human"


def mean_pairwise_disagreement(at: Indices, share: Floats, n: int) -> Floats:
    """Mean |x_i − x_j| over the pairs of votes of each comparison, (n,); 0 below two votes.

    Sorted within a comparison, Σ_{i<j} (x_j − x_i) = Σ_k x_k (2k − m + 1), k from 0 of m votes.
    """
    order = np.lexsort((share, at))
    at, share = at[order], share[order]
    m = np.bincount(at, minlength=n)
    first = np.concatenate([[0], np.cumsum(m)[:-1]])
    rank = np.arange(len(at)) - first[at]
    spread = np.bincount(at, weights=share * (2 * rank - m[at] + 1), minlength=n)
    # max: rounding may leave −1e-17 where all agree.
    return np.maximum(0.0, spread / np.maximum(1, m * (m - 1) / 2))


def _votes_json(at: Indices, votes: Sequence[Vote], n: int) -> list[list[dict[str, Any]]]:
    """The votes of each comparison as JSON values, by vote id; what is not given is left out."""
    found: list[list[dict[str, Any]]] = [[] for _ in range(n)]
    for index, vote in zip(at, votes, strict=True):
        entry = {
            "id": vote.id,
            "rater": vote.rater,
            "kind": vote.rater_kind,
            "choice": vote.choice,
            "strength": vote.strength,
            "p_a": vote.p_a,
        }
        found[int(index)].append(
            {name: value for name, value in entry.items() if value is not None}
        )
    return found
