"""A run is found again by its constraints, too: by what they do, not by what they are called."""

import functools
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from prefkit.training import TrainSettings, train
from prefkit.training.constraints import constraint_digest

SCALE = 1.0


def penalty(scale):
    def rising(logps, rows):
        return scale * logps.ratios()[:, 0].relu()

    return rising


def scaled(logps, rows, scale=1.0):
    return scale * SCALE * _rise(logps)


def _rise(logps):
    return logps.ratios()[:, 0].relu()


class Penalty:
    """A constraint with a state."""

    def __init__(self, weights):
        self.weights = weights

    def __call__(self, logps, rows):
        return self.weights.sum() * _rise(logps)

    def bound(self, logps, rows):
        return -self(logps, rows)


def test_equal_constraints_have_one_digest():
    for one, two in (
        (penalty(0.1), penalty(0.1)),
        (scaled, scaled),
        (functools.partial(scaled, scale=2.0), functools.partial(scaled, scale=2.0)),
        (Penalty(torch.ones(2)), Penalty(torch.ones(2))),
        (Penalty(torch.ones(2)).bound, Penalty(torch.ones(2)).bound),
    ):
        assert constraint_digest(one) == constraint_digest(two)


def test_constraints_that_differ_in_a_number_a_tensor_or_code_have_different_digests(monkeypatch):
    given = [
        penalty(0.1),
        penalty(0.2),
        scaled,
        functools.partial(scaled, scale=2.0),
        functools.partial(scaled, scale=3.0),
        Penalty(torch.ones(2)),
        Penalty(torch.zeros(2)),
        Penalty(torch.ones(2)).bound,
    ]
    digests = {constraint_digest(one) for one in given}
    assert len(digests) == len(given)
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 2.0)
    assert constraint_digest(scaled) not in digests, "a number of its module"
    monkeypatch.undo()
    monkeypatch.setattr(sys.modules[__name__], "_rise", lambda logps: -logps.ratios()[:, 0])
    assert constraint_digest(scaled) not in digests, "a function of its module"


def test_a_digest_is_the_same_in_another_process(tmp_path):
    (tmp_path / "rule.py").write_text(
        "import torch\nWORDS = {'fool': 1.0}\n\ndef rule(logps, rows):\n"
        "    return torch.tensor([WORDS.get('fool')]) * logps.policy[:, 0]\n"
    )
    code = (
        "from rule import rule; from prefkit.training.constraints import constraint_digest;"
        "print(constraint_digest(rule))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(found) == 1


@pytest.mark.parametrize("make", [penalty, lambda s: functools.partial(scaled, scale=s)])
def test_a_finished_run_is_not_taken_for_one_with_another_constraint(
    make, tiny_model_dir, pairs, tmp_path
):
    settings = TrainSettings(
        dtype="float32", device="cpu", trackers=[], reference_store="none", max_steps=2
    )
    runs = [
        train(str(tiny_model_dir), pairs[:8], settings, out=tmp_path, constraints=[make(scale)])
        for scale in (0.1, 50.0)
    ]
    assert runs[0].run != runs[1].run


def test_rows_that_say_something_else_to_a_constraint_make_another_run(
    tiny_model_dir, pairs, tmp_path
):
    settings = TrainSettings(
        dtype="float32", device="cpu", trackers=[], reference_store="none", max_steps=1
    )
    runs = set()
    for tag in ("safe", "unsafe"):
        rows = [replace(p, prompt=replace(p.prompt, tags={"kind": tag})) for p in pairs[:4]]
        for constraints in ([], [penalty(1.0)]):
            result = train(
                str(tiny_model_dir), rows, settings, out=tmp_path, constraints=constraints
            )
            runs.add(result.run)
    assert len(runs) == 3, "without a constraint tags are nothing to the trainer"
