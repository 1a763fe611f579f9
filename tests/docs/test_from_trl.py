"""docs/from-trl.md leaves out no field of TRL's DPOConfig and names only settings that exist."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
from components import require_component

from prefkit.training.losses import losses
from prefkit.training.settings import TrainSettings

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "from-trl.md"
TRL = json.loads((HERE / "trl_1_16_0_dpo_config.json").read_text(encoding="utf-8"))
NAME = re.compile(r"`([a-z0-9_.]+)`")
# The table under a heading holds the fields of this list.
TABLES = {
    "DPOConfig": "declared",
    "What DPOConfig inherits": "inherited",
    "Losses": "loss_types",
}


def rows(heading: str) -> list[tuple[list[str], list[str]]]:
    """Names in the first and second column of the table under a heading, row by row."""
    section = re.split(rf"^## {heading}$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1]
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    cells = [line.strip("|").split("|") for line in lines]
    return [(NAME.findall(row[0]), NAME.findall(row[1])) for row in cells]


@pytest.mark.parametrize(("heading", "kind"), TABLES.items())
def test_the_page_maps_every_name_once(heading, kind):
    named = [name for theirs, _ in rows(heading) for name in theirs]
    assert sorted(named) == sorted(TRL[kind])


@pytest.mark.parametrize("heading", ["DPOConfig", "What DPOConfig inherits"])
def test_the_settings_that_the_page_names_exist(heading):
    for theirs, ours in rows(heading):
        for name in ours:
            field, _, inner = name.partition(".")
            assert field in TrainSettings.model_fields, f"{theirs}: {name}"
            if inner:
                assert hasattr(getattr(TrainSettings(), field), inner), f"{theirs}: {name}"


def test_the_losses_that_the_page_names_exist():
    for theirs, ours in rows("Losses"):
        assert len(ours) == 1, theirs
        assert losses.get(ours[0]).name == ours[0]


def test_the_stored_names_are_those_of_trl_1_16_0():
    if importlib.util.find_spec("trl") is None:
        require_component("trl", "the package trl is not installed (extra: oracles)")
    from importlib.metadata import version

    from trl import DPOConfig

    assert version("trl") == TRL["version"]
    assert list(DPOConfig.__annotations__) == TRL["declared"]
    # Which arguments transformers has depends on its version; those of TRL's base class do not.
    assert set(DPOConfig.__mro__[1].__annotations__) <= set(TRL["inherited"])
