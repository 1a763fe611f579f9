"""Rows for the tests of losses: made once as plain floats, given to torch and to the oracle."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch

from prefkit.training.losses import Logps, Loss, Targets, Votes


@dataclass(frozen=True)
class Row:
    """One row. votes: [(share of the first answer, error rate | None)]."""

    lp: list[float]
    ref: list[float]
    n: list[int]
    p: float
    margin: float | None = None
    votes: tuple[tuple[float, float | None], ...] = ()

    def swapped(self) -> Row:
        """The same facts with the two answers in the other order."""
        return replace(
            self,
            lp=self.lp[::-1],
            ref=self.ref[::-1],
            n=self.n[::-1],
            p=1 - self.p,
            margin=None if self.margin is None else -self.margin,
            votes=tuple((1 - share, error) for share, error in self.votes),
        )


WIDTH = {"pair": 2, "unpaired": 2, "ranking": 4, "demonstration": 1}


def make_rows(loss: Loss, seed: int, size: int | None = None) -> list[Row]:
    """Random rows of the loss's own kind; hard losses get p of 0 or 1."""
    rng = random.Random(seed)
    return [_row(loss, rng) for _ in range(size or rng.randint(1, 6))]


def _row(loss: Loss, rng: random.Random) -> Row:
    width = WIDTH[loss.target]
    lengths = [rng.randint(1, 12) for _ in range(width)]
    if loss.target == "ranking":
        absent = rng.randint(0, 2)
        lengths[width - absent :] = [0] * absent
    lp = [-rng.uniform(0.05, 4) * max(n, 1) for n in lengths]
    if loss.target in ("ranking", "demonstration"):
        p = 1.0
    else:
        p = rng.choice([0.0, 1.0]) if loss.hard else rng.choice([0.0, 0.5, 1.0, rng.random()])
    votes = [
        (rng.choice([0.0, 0.5, 1.0]), rng.choice([None, rng.uniform(0, 0.5)]))
        for _ in range(rng.randint(0, 4))
    ]
    return Row(
        lp=lp,
        ref=[value + rng.gauss(0, 1.5) for value in lp],
        n=lengths,
        p=p,
        margin=rng.gauss(0, 1),
        votes=tuple(votes),
    )


def tensors(
    loss: Loss, rows: list[Row], dtype: torch.dtype = torch.float64, **divergence: object
) -> tuple[Logps, Targets]:
    """What a loss takes, without a reference for a loss that needs none."""
    policy = torch.tensor([row.lp for row in rows], dtype=dtype)
    reference = torch.tensor([row.ref for row in rows], dtype=dtype)
    n_tokens = torch.tensor([row.n for row in rows])
    logps = Logps(policy, reference if loss.needs_reference else None, n_tokens, **divergence)  # pyright: ignore
    margin = torch.tensor([row.margin or 0.0 for row in rows], dtype=dtype)
    p = torch.tensor([row.p for row in rows], dtype=dtype)
    return logps, Targets(p, margin, _votes(rows, dtype))


def _votes(rows: list[Row], dtype: torch.dtype) -> Votes:
    width = max([len(row.votes) for row in rows] + [1])
    share = torch.full((len(rows), width), 0.25, dtype=dtype)
    error = torch.full((len(rows), width), 0.75, dtype=dtype)
    present = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        for j, (given, rate) in enumerate(row.votes):
            share[i, j], error[i, j], present[i, j] = given, -1.0 if rate is None else rate, True
    return Votes(share, error, present)


def compute(loss: Loss, rows: list[Row], **params: float) -> torch.Tensor:
    """The loss of each row, in fp64, parameters over the defaults."""
    logps, targets = tensors(loss, rows)
    return loss.function(logps, targets, params=loss.resolve(params))


def other_params(loss: Loss) -> dict[str, float]:
    """Every parameter at a value that is not its default and inside its range."""
    values: dict[str, float] = {}
    for key, param in loss.params.items():
        away = param.default * 0.7 + 0.11
        values[key] = min(max(away, param.low), param.high)
        assert values[key] != param.default, (loss.name, key)
    return values
