"""docs/parity.md from what was measured: ``python tools/parity.py`` writes it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from training.oracle.parity_grid import LOSSES, TRL_DIVERGES, WPO_FAILS, Outcome
from training.oracle.parity_trajectories import BATCH, STEPS, Difference

VALUE, GRADIENT = 1e-6, 1e-5
HEAD = """# Parity with TRL 1.16.0

Written by `python tools/parity.py`, which runs TRL's own `_compute_loss` and prefkit's losses on
the same per-token log-probabilities in fp32 and records the largest difference it saw. Do not edit:
a test holds this page to the grid that it runs.

Policy and reference are 1.5 nats an answer apart, answers have 1 to 10 tokens, each figure is the
largest over three steps of six pairs. *Value* is |difference| / max(1, |TRL's loss|), at most 1e-6
by the tests; *gradient* is the largest difference over all scored tokens relative to the largest
entry, at most 1e-5. `sft` is the mean over all tokens of the step on both sides; TRL takes it over
a micro-batch, which is the same only where that is the whole step. The tests beside the grid
also go from single-turn dialogues to gradients of a tiny model's weights with each side's own
tokens, forward pass and head: 1e-5 for each of the losses of DPOTrainer.
"""
TRAJECTORIES = f"""
## Trajectories

{STEPS} optimiser steps of {BATCH} rows by `trl` and by `prefkit.train`: the same data in TRL's
format and in the same order, equal initial weights, fp32, clipping at 1, a constant learning rate;
for each its own tokens, batches, reference, loss, clipping and optimiser. *Micro-batch*: rows that
TRL takes at once; prefkit packs trees of at most 96 tokens. *Reference*: the starting adapter
(TRL's own choice for a model that comes with one), the model under it, or another checkpoint. The
figures are the largest over all steps (loss, gradient norm relative to TRL's) and over all
parameters after the last step, at most 1e-5, 1e-4 and 1e-5 by the tests; *moved* is how far the
parameter went that went furthest.

| TRL | prefkit | method | optimiser | reference | micro-batch | loss | norm | parameters | moved |
|---|---|---|---|---|---|---|---|---|---|
"""
MICRO = """
Three settings have the whole step as one micro-batch, because TRL's result depends on its size
there: `sft` is a mean over the tokens of a micro-batch, `aot_unpaired` sorts within one, and
`kto` takes its z0 from one, with answers lent within it. prefkit takes all three over the optimiser
step, however it is packed. Which answer lends to which is each side's own choice; the rows of `kto`
stand in an order in which both choose alike.
"""
REFUSED = """
## Refused by TRL, by name

TRL refuses every f-divergence but reverse KL for these losses, and prefkit does so too, because
the partition function cancels only in a difference of two answers:

{losses}

TRL refuses WPO with `aot` and `aot_unpaired`; WPO with {wpo} is accepted and then fails in the
backward pass (the weight is multiplied in place into a tensor that autograd needs). prefkit
computes the latter.

## Not offered by prefkit

CPOTrainer's `hinge` and `ipo` without a reference, its AlphaPO transform (`alpha` other than 0),
and `label_smoothing` with `simpo`: TRL smooths after γ is taken off, so that with probability ε the
second answer wins if it trails by less than γ; prefkit's soft SimPO asks a lead of γ of whichever
answer wins.
"""
REFERENCES = {"start": "starting adapter", "base": "model under it", "other": "checkpoint"}
COLUMNS = (
    "| TRL | prefkit | divergences | modifiers | value | gradient |\n|---|---|---|---|---|---|\n"
)


def page(outcomes: Iterable[Outcome], paths: Iterable[Difference]) -> str:
    """The whole page."""
    lines = [f"\n## What was compared\n\n{COLUMNS}"]
    lines += [f"| {' | '.join(cells)} |\n" for cells in table(outcomes)]
    lines.append(TRAJECTORIES)
    lines += [f"| {' | '.join(_path_cells(path))} |\n" for path in paths]
    lines.append(MICRO)
    apart = [name for name in LOSSES if name not in TRL_DIVERGES]
    named = "\n".join(f"- `{name}` (prefkit: `{LOSSES[name][0]}`)" for name in apart)
    wpo = ", ".join(f"`{name}`" for name in WPO_FAILS)
    return HEAD + "".join(lines) + REFUSED.format(losses=named, wpo=wpo)


def table(outcomes: Iterable[Outcome]) -> list[list[str]]:
    """A line for each loss or mixture of a trainer, its cases taken together."""
    lines = []
    for (trainer, loss, ours), group in groupby(outcomes, key=_line):
        cases = list(group)
        divergences = dict.fromkeys(outcome.case.divergence for outcome in cases)
        modifiers = dict.fromkeys(m for outcome in cases for m in _modifiers(outcome))
        value = max(outcome.value for outcome in cases)
        gradient = max(outcome.gradient for outcome in cases)
        lines.append(
            [
                f"{trainer} `{loss}`",
                f"`{ours}`",
                ", ".join(divergences),
                ", ".join(modifiers) or "none",
                f"{value:.0e}",
                f"{gradient:.0e}",
            ]
        )
    return lines


def _path_cells(path: Difference) -> list[str]:
    setting = path.setting
    cells = [f"{setting.trainer} `{setting.label}`", f"`{setting.ours}`", setting.method]
    cells += [setting.optimizer, REFERENCES[setting.reference], str(setting.micro)]
    return cells + [f"{x:.0e}" for x in (path.loss, path.norm, path.weights, path.moved)]


def _line(outcome: Outcome) -> tuple[str, str, str]:
    case = outcome.case
    return case.trainer, case.label, case.ours


def _modifiers(outcome: Outcome) -> list[str]:
    case = outcome.case
    found = [] if case.ld_alpha is None else [f"ld_alpha {case.ld_alpha:g}"]
    return found + (["WPO"] if case.wpo else [])
