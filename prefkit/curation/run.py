"""Run a recipe over an Example table: score, decide, and keep account of every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl

from prefkit.core.errors import DataError, PrefkitError
from prefkit.curation.columns import columns_of
from prefkit.curation.filters import Band, Filter, Scores
from prefkit.curation.recipe import Recipe, Stage, read_recipe
from prefkit.curation.result import Curation, Decision
from prefkit.formats.load import Loaded, read_examples


def curate(
    data: Any,
    recipe: str | Path | Recipe = "quick",
    *,
    overrides: Sequence[str] = (),
    **loading: Any,
) -> Curation:
    """What the recipe keeps and drops of ``data``, with one verdict a row.

    data: anything ``prefkit.load`` takes (a path, a Hub id, a Dataset, a data frame, Examples).
    recipe: a shipped name, a YAML file or a Recipe. overrides: "length_ratio.max=4". loading:
    layout, split, revision and mapping, as for ``load``. kept + dropped = the rows of the table.
    """
    resolved = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, overrides)
    if isinstance(recipe, Recipe) and overrides:
        raise TypeError("overrides change a recipe by name or file, not a Recipe")
    loaded = data if isinstance(data, Loaded) else read_examples(data, **loading)
    run = _Run(columns_of(loaded.table))
    for name, stage, entry, band in resolved.running():
        run.decide(name, stage, entry, band)
    given = None if isinstance(data, Loaded | str | Path) else data
    return Curation.of(loaded, resolved, run.rows, run.scores, run.decisions, given)


@dataclass
class _Run:
    """The state of a decision pass: which rows still stand, and what was decided."""

    rows: pl.DataFrame
    scores: dict[str, pl.Series] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    standing: Any = None  # bool (n,)

    def __post_init__(self) -> None:
        self.standing = np.ones(self.rows.height, dtype=bool)

    def decide(self, name: str, stage: Stage, entry: Filter, band: Band) -> None:
        """Score the rows, drop the standing ones outside the band."""
        if entry.kind == "row":
            seen = np.arange(self.rows.height)
        else:
            seen = np.flatnonzero(self.standing)
        found = _call(entry, self.rows[seen], stage.params)
        values = np.full(self.rows.height, np.nan)
        values[seen] = found.values.to_numpy()
        missing = np.isnan(values)
        below = np.zeros(len(values), bool) if band.min is None else values < band.min
        above = np.zeros(len(values), bool) if band.max is None else values > band.max
        scored = np.zeros(len(values), bool)
        scored[seen] = True
        absent = scored & missing & self.standing
        fails = (below | above | (absent if stage.missing == "drop" else False)) & self.standing
        at = np.flatnonzero(fails)
        self.standing &= ~fails
        self.scores[name] = pl.Series(name, values, nan_to_null=True)
        self.decisions.append(
            Decision(
                stage=name,
                at=at,
                reason=np.where(below[at], "below", np.where(above[at], "above", "no score")),
                score=values[at],
                threshold=str(band),
                matched=_matched(found, seen, at),
                n_abstained=int(absent.sum()),
            )
        )


def _call(entry: Filter, rows: pl.DataFrame, params: dict[str, Any]) -> Scores:
    """The filter's scores as float64 with NaN where it abstains or gives an infinity."""
    try:
        given = entry.function(rows, **params)
    except PrefkitError as error:
        raise type(error)(f"filter {entry.name!r}: {error.message}", hint=error.hint) from None
    found = given if isinstance(given, Scores) else Scores(given)
    values = pl.Series(entry.name, found.values).cast(pl.Float64).fill_null(float("nan"))
    if len(values) != rows.height:
        raise DataError(
            f"filter {entry.name!r} gave {len(values)} scores for {rows.height} rows",
            hint="a filter returns one score a row, in the order of the rows",
        )
    finite = pl.select(pl.when(values.is_finite()).then(values).otherwise(float("nan")))
    return Scores(finite.to_series(), found.matched_row)


def _matched(found: Scores, seen: Any, at: Any) -> list[str | None]:
    if found.matched_row is None:
        return [None] * len(at)
    where = np.searchsorted(seen, at)
    return cast(list[str | None], found.matched_row.gather(where).to_list())
