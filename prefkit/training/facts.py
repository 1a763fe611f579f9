"""What the loop hands to the monitor: numbers on the host, one row of arrays a training row.

Arrays are numpy, fp32 or fp64, already copied from the device: nothing here waits for a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from prefkit.training.losses import TargetKind

    Floats = NDArray[np.floating]
    Integers = NDArray[np.integer]


@dataclass(frozen=True, slots=True, eq=False)
class RowFacts:
    """Rows as a model scored them, of one target kind.

    ids: (rows,). p: (rows,) in [0, 1]. weight: (rows,) ≥ 0. values: (rows,), the loss of each row
    before its weight. policy, reference: (rows, n) log-probs summed over scored tokens, in nats,
    the first answer first; reference None where the loss needs none. n_tokens: (rows, n) scored
    tokens, 0 where a row has no such answer. beta: what turns a log-ratio into a reward.
    per_token: the loss divides log-ratios by their tokens, so that rewards are means over tokens.
    entropy: mean over the scored tokens, in nats, None where it was not measured. is_reward: the
    model is a reward model and ``policy`` holds its rewards; reference is None and beta 1.
    """

    ids: Sequence[str]
    target: TargetKind
    p: Floats
    weight: Floats
    values: Floats
    policy: Floats
    reference: Floats | None
    n_tokens: Integers
    beta: float
    per_token: bool = False
    entropy: float | None = None
    is_reward: bool = False

    def ratios(self) -> Floats:
        """log π − log π_ref of every answer: (rows, n); log π where there is no reference."""
        return self.policy if self.reference is None else self.policy - self.reference

    def rewards(self) -> Floats:
        """β times the log-ratio (its mean over tokens where ``per_token``): (rows, n)."""
        ratios = self.ratios()
        return self.beta * (ratios / self.n_tokens.clip(min=1) if self.per_token else ratios)


@dataclass(frozen=True, slots=True, eq=False)
class StepFacts:
    """One optimiser step. step counts from 1 to total, ``epoch`` from 1.

    loss: the number that was minimised; terms: the parts it is the sum of, by name, where it has
    several. grad_norm: before clipping. seconds: of this step. n_tokens_fed: real tokens that went
    through the model, padding not counted. n_tokens_equivalent: what an unshared computation
    feeds for the same rows, each prompt once an answer: 2P + C + R for a pair.
    """

    step: int
    total: int
    rows: RowFacts
    loss: float
    grad_norm: float
    learning_rate: float
    seconds: float
    n_tokens_fed: int
    n_tokens_equivalent: int
    epoch: int = 1
    terms: Mapping[str, float] = field(default_factory=dict[str, float])

    def is_finite(self) -> bool:
        """Whether the gradient and every row's loss are finite."""
        return math.isfinite(self.grad_norm) and all(map(math.isfinite, self.rows.values))


@dataclass(frozen=True, slots=True, eq=False)
class SampledAnswers:
    """Answers drawn from the policy at temperature 1 without top-p, for people and for the KL.

    prompts, texts: one an answer. policy, reference: (N,) log-probs of every sampled token, in
    nats; answer: (N,) long, the answer each token belongs to. All three None where the answers
    were only drawn to be read (greedy, say): then no KL is estimated from them.
    """

    prompts: Sequence[str]
    texts: Sequence[str]
    policy: Floats | None = None
    reference: Floats | None = None
    answer: Integers | None = None


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationFacts:
    """All held-out rows as the policy of ``step`` scores them.

    loss: the objective's L over them as one step: each term by its own divisor (rows or tokens),
    with its weight in the mixture and WPO's, and the constraints.
    """

    step: int
    rows: RowFacts
    loss: float
    seconds: float
    samples: SampledAnswers | None = None
