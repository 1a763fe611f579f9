"""Preference sets, filtered: a filter scores, a band decides, every row has its verdict."""

from __future__ import annotations

from prefkit.curation import content, duplicates  # register the built-in filters
from prefkit.curation.filters import FILTERS, Band, Scores, row_filter, set_filter
from prefkit.curation.recipe import SHIPPED, Recipe, Stage, read_recipe
from prefkit.curation.result import Curation
from prefkit.curation.run import curate

__all__ = [
    "FILTERS",
    "SHIPPED",
    "Band",
    "Curation",
    "Recipe",
    "Scores",
    "Stage",
    "curate",
    "read_recipe",
    "row_filter",
    "set_filter",
]
del content, duplicates
