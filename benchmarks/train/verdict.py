"""From runs to ratios: medians, and a row that is void where the two sides computed something else.

Pairs per second are those of a whole epoch without its first step: the policy's steps, and the
reference's pass wherever a side makes one. What a side saves by keeping the reference it may count
only where it was kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

LOSS_TOLERANCE = 1e-3  # of the loss itself
WARM_UP = 1  # steps

Side = Literal["trl", "prefkit"]
Phase = Literal["first", "again"]


@dataclass(frozen=True, slots=True)
class Run:
    """One process of one side.

    phase: first has to score the reference; again is the same data with another β after it.
    losses, step_seconds: a value an optimiser step. reference_seconds: of reference_pairs pairs
    scored outside the steps. ended: why it did not finish (out of memory, …), else None.
    """

    side: Side
    config: str
    phase: Phase
    batch_size: int
    losses: tuple[float, ...]
    step_seconds: tuple[float, ...]
    reference_seconds: float
    reference_pairs: int
    peak_bytes: int
    seconds: float
    ended: str | None

    @property
    def seconds_per_pair(self) -> float:
        """Seconds that a pair takes in the optimiser steps after warm-up."""
        return median(self.step_seconds[WARM_UP:]) / self.batch_size

    @property
    def pairs_per_second(self) -> float:
        """Of the steps and of the reference's own pass together."""
        reference = self.reference_seconds / self.reference_pairs if self.reference_pairs else 0.0
        return 1 / (self.seconds_per_pair + reference)

    @property
    def finished(self) -> bool:
        """Whether it has figures to compare."""
        return self.ended is None


def losses_agree(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether the losses of all steps that both took differ by at most a thousandth."""
    both = list(zip(ours, theirs, strict=False))
    return bool(both) and all(abs(a - b) <= LOSS_TOLERANCE * abs(b) for a, b in both)


def best(runs: Sequence[Run]) -> str:
    """The configuration with the most pairs per second, by its median."""
    rates: dict[str, list[float]] = {}
    for run in runs:
        if run.finished:
            rates.setdefault(run.config, []).append(run.pairs_per_second)
    return max(rates, key=lambda config: median(rates[config]))


def verdict(runs: Sequence[Run], *, trl: str, ours: str) -> dict[str, Any]:
    """The ratios of two configurations (None where they are void) and what they rest on."""
    theirs = _of(runs, "trl", trl, "first")
    first = _of(runs, "prefkit", ours, "first")
    again = _of(runs, "prefkit", ours, "again")
    kept = [r for r in runs if r.side == "trl" and r.phase == "again" and r.finished]
    agree = bool(theirs) and all(
        losses_agree(r.losses, theirs[0].losses) for r in [*theirs, *first]
    )
    # The other β of "again" gives other losses: they are compared with TRL's at that β.
    agree_again = bool(kept) and all(
        losses_agree(r.losses, kept[0].losses) for r in [*kept, *again]
    )
    rate = _rate(theirs)
    # A second β: TRL scores the reference once more, in its steps or before them, whichever costs
    # less. A second epoch: TRL's steps with a precomputed reference.
    second = max([rate or 0.0, *(r.pairs_per_second for r in kept)])
    epoch = median([1 / r.seconds_per_pair for r in kept]) if kept else None
    return {
        "pairs_per_s_ratio": _ratio(_rate(first), rate) if agree else None,
        "peak_memory_ratio": _ratio(_peak(first), _peak(theirs)) if agree else None,
        "second_beta_ratio": _ratio(_rate(again), second) if agree_again else None,
        "second_epoch_ratio": _ratio(_rate(again), epoch) if agree_again else None,
        "losses_agree": agree,
        "second_beta_losses_agree": agree_again,
        "trl_config": trl,
        "prefkit_config": ours,
        "trl_pairs_per_s": rate,
        "prefkit_pairs_per_s": _rate(first),
        "prefkit_second_beta_pairs_per_s": _rate(again),
        "trl_second_beta_pairs_per_s": second or None,
        "trl_second_epoch_pairs_per_s": epoch,
        "trl_peak_bytes": _peak(theirs),
        "prefkit_peak_bytes": _peak(first),
    }


def _of(runs: Sequence[Run], side: Side, config: str, phase: Phase) -> list[Run]:
    return [
        run
        for run in runs
        if (run.side, run.config, run.phase) == (side, config, phase) and run.finished
    ]


def _rate(runs: Sequence[Run]) -> float | None:
    return median([run.pairs_per_second for run in runs]) if runs else None


def _peak(runs: Sequence[Run]) -> float | None:
    return median([run.peak_bytes for run in runs]) if runs else None


def _ratio(above: float | None, below: float | None) -> float | None:
    return round(above / below, 4) if above and below else None
