"""Twenty steps of TRL 1.16.0's trainers and of ours end in the same place, by the same path.

docs/parity.md lists what is compared here and how far apart the two were.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from training.oracle.parity_trajectories import (
    BATCH,
    LOSS,
    NORM,
    SETTINGS,
    WEIGHTS,
    Difference,
    Path20,
    Setting,
    Stage,
    difference,
    make_stage,
    ours,
    theirs,
)

NAMED = {setting.name: setting for setting in SETTINGS}
MIXED = NAMED["1·sigmoid + 0.2·sft adamw lora base"]


class Runs:
    """Runs of both sides on one stage, each made once."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.made: dict[str, Path20] = {}

    def trl(self, setting: Setting) -> Path20:
        key = f"trl {setting}"
        if key not in self.made:
            self.made[key] = theirs(self.stage, setting)
        return self.made[key]

    def prefkit(self, setting: Setting, **changes: Any) -> Path20:
        key = f"prefkit {setting} {changes}"
        if key not in self.made:
            self.made[key] = ours(self.stage, setting, **changes)
        return self.made[key]

    def apart(self, setting: Setting, one: Path20, other: Path20) -> Difference:
        return difference(self.stage, setting, one, other)


@pytest.fixture(scope="module")
def runs(trl, tiny_model_dir, tmp_path_factory) -> Iterator[Runs]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model is slower on several
    yield Runs(make_stage(tiny_model_dir, tmp_path_factory.mktemp("trajectories")))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_twenty_steps_are_trls(runs, setting):
    found = runs.apart(setting, runs.trl(setting), runs.prefkit(setting))
    assert found.loss <= LOSS
    assert found.norm <= NORM
    assert found.weights <= WEIGHTS
    assert found.moved > 100 * WEIGHTS  # the path is long beside what may lie between the two


def test_steps_that_are_clipped_and_steps_that_are_not_are_compared(runs):
    """Over a path of SGD, where clipping decides how long a step is."""
    norms = runs.trl(NAMED["sigmoid sgd full other"]).norms
    assert min(norms) < 1 < max(norms)


@pytest.mark.parametrize("change", [{"beta": 0.303}, {"weight_decay": 0.05}], ids=str)
def test_the_comparison_sees_a_fault(runs, change):
    """A beta that is 1 % off; a decay of weights that TRL's side has not."""
    setting = NAMED["sigmoid adamw lora start"]
    found = runs.apart(setting, runs.trl(setting), runs.prefkit(setting, **change))
    assert found.loss > 10 * LOSS
    assert found.weights > 10 * WEIGHTS


def test_a_mean_over_tokens_depends_on_the_micro_batch_in_trl_and_not_in_ours(runs):
    split = runs.trl(replace(MIXED, micro=2))
    assert MIXED.micro == BATCH
    assert runs.apart(MIXED, runs.trl(MIXED), split).loss > 100 * LOSS
    packed = runs.prefkit(MIXED, tokens_at_once=16)
    assert runs.apart(MIXED, runs.prefkit(MIXED), packed).loss <= LOSS
