"""What a round hands to the stages."""

from __future__ import annotations

import pytest

from prefkit.rounds.project import Project
from prefkit.rounds.stages import settings_of


@pytest.mark.parametrize(
    ("start", "number", "reference"),
    [("previous", 1, "base"), ("previous", 2, "start"), ("base", 2, "base")],
)
def test_a_round_that_starts_from_the_base_model_has_it_for_its_start(start, number, reference):
    project = Project.model_validate({"loop": {"start": start}, "train": {"reference": "start"}})
    assert settings_of(project, number).reference == reference


def test_every_round_has_a_seed_of_its_own():
    assert len({settings_of(Project(), number).seed for number in (1, 2, 3)}) == 3
