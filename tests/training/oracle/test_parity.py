"""Every loss × divergence × modifier that TRL 1.16.0 accepts, on the same log-probs; the rest is
refused by name on both sides. docs/parity.md lists what is compared here."""

import re
from pathlib import Path

import pytest
import torch
from training.oracle.parity_grid import (
    LOSSES,
    TRL_DIVERGES,
    WPO_FAILS,
    Case,
    dpo_cases,
    dpo_inputs,
    dpo_outcome,
    dpo_trainer,
    forward,
    make_batch,
    ours,
    refused,
    theirs,
)
from training.oracle.parity_others import outcomes
from training.oracle.parity_report import GRADIENT, VALUE, page
from training.oracle.parity_trajectories import SETTINGS, Difference

from prefkit.training.losses import losses

PAGE = Path(__file__).parents[3] / "docs" / "parity.md"


@pytest.mark.parametrize("case", list(dpo_cases()), ids=lambda case: case.name)
def test_loss_and_gradient_are_trls(dpo, case):
    found = dpo_outcome(dpo, case)
    assert found.value <= VALUE
    assert found.gradient <= GRADIENT


def test_losses_of_the_other_trainers_are_trls(kto):
    found = list(outcomes(kto))
    assert len(found) >= 8
    for outcome in found:
        assert outcome.value <= VALUE, outcome
        assert outcome.gradient <= GRADIENT, outcome


def test_the_grid_has_every_loss_that_trl_names(dpo):
    """TRL lists what it knows in the error for a loss it does not."""
    batch = make_batch(0)
    inputs = dpo_inputs(batch, batch.reference.sum(dim=1))
    dpo.loss_types, dpo.loss_weights = ["no such loss"], [1.0]
    with pytest.raises(ValueError, match="Unknown loss type") as caught:
        dpo._compute_loss(forward(batch.logps, batch.log_p2), inputs, False)
    known = str(caught.value).split("[")[1].split("]")[0].replace("'", "").split(", ")
    assert sorted(known) == sorted(LOSSES)


@pytest.mark.parametrize(("name", "divergence"), refused())
def test_a_divergence_that_trl_refuses_is_refused_by_our_registration(
    name, divergence, trl, tiny_model_dir, tmp_path
):
    with pytest.raises(ValueError, match="only supported for the following loss types"):
        dpo_trainer(tiny_model_dir, tmp_path, loss_type=[name], f_divergence_type=divergence)
    assert not losses.get(LOSSES[name][0]).divergences


def test_a_divergence_that_trl_accepts_is_accepted_by_ours():
    accepted = {LOSSES[name][0] for name in TRL_DIVERGES} - {"sft"}
    assert all(losses.get(name).divergences for name in accepted)


@pytest.mark.parametrize("name", WPO_FAILS)
def test_wpo_fails_in_trl_where_the_page_says_and_works_in_ours(dpo, name):
    case = Case("DPOTrainer", {name: 1.0}, wpo=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        theirs(dpo, case, make_batch(0))
    value, gradient = ours(case, make_batch(0))
    assert torch.isfinite(value)
    assert gradient.abs().max() > 0


def test_the_comparison_sees_a_fault(dpo):
    """A reference that is 0.1 % off is far outside the tolerances."""
    batch = make_batch(0)
    case = Case("DPOTrainer", {"sigmoid": 1.0})
    value, gradient = theirs(dpo, case, batch)
    shifted = make_batch(0)
    shifted.reference = shifted.reference * 1.001
    other, slope = ours(case, shifted)
    assert abs(value - other) > 10 * VALUE
    assert (gradient - slope).abs().max() > 10 * GRADIENT * gradient.abs().max()


def test_the_parity_page_is_this_grid(dpo, kto):
    """All of the page but its measured figures, which differ by machine in the last digit."""
    found = [dpo_outcome(dpo, case) for case in dpo_cases()] + list(outcomes(kto))
    paths = [Difference(setting, 0.0, 0.0, 0.0, 0.0) for setting in SETTINGS]

    def without_figures(text):
        return re.sub(r"\| \d(\.\d)?e[+-]\d\d (?=\|)", "| · ", text).splitlines()

    written = PAGE.read_text(encoding="utf-8")
    assert without_figures(written) == without_figures(page(found, paths))
