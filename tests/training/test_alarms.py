"""An alarm sounds on the planted fault, once, and never on a healthy run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from run_facts import course, pair_facts, step_facts

from prefkit.training.alarms import Alarm, Alarms, AlarmSettings, sounded_in
from prefkit.training.losses import losses
from prefkit.training.metrics import step_line

TOTAL = 100


def sound(make_rows, total=TOTAL, settings=None, **given):
    """All alarms of a run whose rows at step s are ``make_rows(rng, part of the run done)``."""
    given = {"first_loss": math.log(2), **given}
    alarms = Alarms(settings or AlarmSettings(), total=total, **given)
    for step in range(1, total + 1):
        rows = make_rows(np.random.default_rng([1, step]), (step - 1) / total)
        alarms.see(step_line(step_facts(step, total, rows)))
    return alarms.sounded


def healthy(rng, part, n=8, chosen=0.0, lengths=None):
    margin = part * (1 + rng.normal(size=n))
    if lengths is None:
        lengths = rng.integers(5, 60, (n, 2))
    return pair_facts(margin, np.ones(n), chosen=chosen, lengths=lengths)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("total", [3, 40, 300])
def test_a_healthy_run_sounds_none(seed, total):
    alarms = Alarms(AlarmSettings(), total=total, first_loss=math.log(2))
    for step in range(1, total + 1):
        assert alarms.see(step_line(course(step, total, seed))) == []


def test_a_falling_chosen_likelihood_sounds_once_with_its_remedies():
    (alarm,) = sound(lambda rng, part: healthy(rng, part, chosen=-8 * part))
    assert alarm.kind == "chosen_falls"
    # −8·part passes −2 on average over 20 steps when its middle is at part ¼.
    assert alarm.step == pytest.approx(36, abs=2)
    told = str(alarm)
    for remedy in ("nll", "dpop", "learning_rate", "beta"):
        assert remedy in told


def test_a_fall_within_the_threshold_is_no_alarm():
    settings = AlarmSettings(chosen_falls=9)
    assert sound(lambda rng, part: healthy(rng, part, chosen=-8 * part), settings=settings) == []


def test_without_a_reference_the_fall_is_measured_from_the_start():
    def rows(fall):
        def make(rng, part):
            pairs = healthy(rng, part)
            # The margin grows all the while: the rejected answer falls faster.
            policy = np.tile([-20 - 20 * fall * part, -22 - 40 * part], (8, 1))
            return type(pairs)(
                pairs.ids, "pair", pairs.p, pairs.weight, pairs.values, policy, None,
                np.full((8, 2), 20), 0.1,
            )  # fmt: skip

        return make

    (alarm,) = sound(rows(1.0), first_loss=None)
    assert alarm.kind == "chosen_falls"
    assert "a token" in alarm.message
    assert sound(rows(0.0), first_loss=None) == []


def test_a_first_loss_away_from_ln_2_sounds_at_step_1():
    (alarm,) = sound(lambda rng, part: healthy(rng, part + 0.01, n=8), total=1)
    assert (alarm.kind, alarm.step) == ("first_loss", 1)
    assert "ln 2" in alarm.message
    assert sound(lambda rng, part: healthy(rng, part), total=1) == []
    rows = pair_facts(np.full(8, 1e-3), np.ones(8))
    assert sound(lambda rng, part: rows, total=1, tolerance=5e-3) == []
    assert sound(lambda rng, part: rows, total=1, first_loss=None) == []


def test_an_accuracy_of_a_coin_sounds_in_the_second_half_only():
    (alarm,) = sound(lambda rng, part: pair_facts(0.1 * part * rng.normal(size=8), np.ones(8)))
    assert alarm.kind == "accuracy_stuck"
    assert alarm.step >= TOTAL / 2


def test_labels_that_the_policy_turns_round_sound_otherwise():
    def reversed_labels(rng, part):
        return pair_facts(-part * (1 + 0.3 * rng.normal(size=8)), np.ones(8))

    (alarm,) = sound(reversed_labels)
    assert alarm.kind == "labels_reversed"
    assert "swapped" in str(alarm)


@pytest.mark.parametrize(("sign", "side"), [(1, "longer"), (-1, "shorter")])
def test_a_margin_that_follows_length_sounds(sign, side):
    def rows(rng, part):
        lengths = rng.integers(5, 60, (8, 2))
        longer = lengths[:, 0] - lengths[:, 1]
        margin = part * (1 + sign * 0.1 * longer + rng.normal(size=8))
        return pair_facts(margin, np.ones(8), lengths=lengths)

    assert [a.kind for a in sound(rows)] == ["length"]
    assert side in sound(rows)[0].message


def test_alarms_survive_their_own_json():
    alarm = Alarm("length", 3, "m", ("a", "b"))
    assert sounded_in([{"step": 2}, {"step": 3, "alarms": [alarm.to_json()]}]) == [alarm]


def test_every_loss_that_a_remedy_names_is_registered():
    named = {"nll", "sigmoid", "dpop", "sigmoid_norm", "simpo", "rdpo"}
    assert named - set(losses.names()) == set()
