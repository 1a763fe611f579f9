"""Preference pairs for the tiny model."""

from __future__ import annotations

import random

import pytest
from planted_pairs import make_pair

from prefkit.core.records import Example


@pytest.fixture(scope="session")
def pairs() -> list[Example]:
    """48 pairs with soft labels and unequal weights."""
    rng = random.Random(7)
    return [
        make_pair(rng, p=rng.choice([0.75, 0.9, 1.0]), weight=rng.choice([0.5, 1.0, 2.0]))
        for _ in range(48)
    ]
