"""A recipe: which filters run, in which order, with which bands. YAML, validated in one go."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from prefkit.core.errors import ConfigError
from prefkit.core.ids import content_id
from prefkit.core.registry import did_you_mean
from prefkit.curation.filters import FILTERS, Band, Filter
from prefkit.settings import Settings, read_settings

SHIPPED = ("none", "quick")


class Stage(Settings):
    """One filter with its band."""

    filter: str | None = Field(
        default=None, description="Filter to run; by default the stage's name."
    )
    min: float | None = Field(
        default=None, description="Lowest score that stays; null: no lower end."
    )
    max: float | None = Field(
        default=None, description="Highest score that stays; null: no upper end."
    )
    params: dict[str, Any] = Field(default={}, description="Parameters of the filter.")
    missing: Literal["keep", "drop"] = Field(
        default="keep", description="What happens to a row on which the filter abstains."
    )
    enabled: bool = Field(default=True, description="false skips the stage.")

    def band(self, default: Band) -> Band:
        """The band: an end that is not given is the filter's default, null leaves it open."""
        given = self.model_fields_set
        return Band(
            self.min if "min" in given else default.min,
            self.max if "max" in given else default.max,
        )


class Recipe(Settings):
    """The stages of a curation, in order; a row is dropped by the first one it fails."""

    name: str = Field(description="Name of the recipe, written into every verdict.")
    about: str = Field(default="", description="What it is for.")
    stages: dict[str, Stage] = Field(default={}, description="Stage name to stage, in order.")

    @field_validator("stages")
    @classmethod
    def _filters_exist(cls, stages: dict[str, Stage]) -> dict[str, Stage]:
        faults = [fault for name, stage in stages.items() for fault in _faults(name, stage)]
        if faults:
            raise ValueError("; ".join(faults))
        return stages

    def running(self) -> list[tuple[str, Stage, Filter, Band]]:
        """Name, stage, filter and band of every enabled stage."""
        found: list[tuple[str, Stage, Filter, Band]] = []
        for name, stage in self.stages.items():
            if stage.enabled:
                entry = FILTERS.get(stage.filter or name)
                found.append((name, stage, entry, stage.band(entry.band)))
        return found

    @property
    def digest(self) -> str:
        """Of the resolved stages: equal digests decide equally."""
        return content_id(
            [
                [name, entry.name, band.min, band.max, stage.params, stage.missing]
                for name, stage, entry, band in self.running()
            ]
        )

    @property
    def label(self) -> str:
        """Name and digest, as verdicts carry it."""
        return f"{self.name}@{self.digest[:12]}"


def _faults(name: str, stage: Stage) -> list[str]:
    try:
        entry = FILTERS.get(stage.filter or name)
        entry.check_parameters(stage.params)
    except ConfigError as error:
        return [f"stage {name!r}: {error.message}" + (f" ({error.hint})" if error.hint else "")]
    band = stage.band(entry.band)
    if band.min is not None and band.max is not None and band.min > band.max:
        return [f"stage {name!r}: min {band.min:g} is above max {band.max:g}: no row could stay"]
    return []


def read_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A shipped recipe by its name, or a YAML file, with overrides laid over it.

    overrides: "length_ratio.max=4" (the leading "stages." may be left out). ConfigError names
    file, line, value and the nearest known name.
    """
    laid = [_with_prefix(override) for override in overrides]
    if str(recipe) in SHIPPED:
        with resources.as_file(resources.files("prefkit.curation") / "recipes") as folder:
            return read_settings(Recipe, folder / f"{recipe}.yaml", laid)
    path = Path(recipe).expanduser()
    if not path.exists() and path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"unknown recipe {str(recipe)!r}{did_you_mean(str(recipe), list(SHIPPED))}",
            hint=f"shipped: {', '.join(SHIPPED)}; or name a YAML file",
        )
    return read_settings(Recipe, path, laid)


def _with_prefix(override: str) -> str:
    first = override.partition("=")[0].strip().split(".")[0]
    return override if first in Recipe.model_fields else f"stages.{override.lstrip()}"
