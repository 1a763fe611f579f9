"""Exact duplicates among the rows. The copy that is surest of its label stays."""

from __future__ import annotations

import polars as pl

from prefkit.core.errors import ConfigError
from prefkit.curation.filters import Band, Scores, set_filter
from prefkit.similarity import normalised

KEYS = {
    "pair": ("chosen", "rejected"),
    "prompt_chosen": ("chosen",),
    "prompt": (),
}


@set_filter("exact_duplicate", unit="copies that are kept before this one", band=Band(max=0))
def exact_duplicate(rows: pl.DataFrame, *, by: str = "pair", normalise: bool = False) -> Scores:
    """0 for the copy that stays, 1, 2, … for the others; matched_row is the one that stays.

    by: what makes a copy, always with the prompt: pair (both answers, in order), unordered_pair
    (either order), prompt_chosen (the chosen answer) or prompt. Of equal rows the one with the
    largest |p − 0.5| stays, then the largest weight, then the first. normalise: case, white
    space and Unicode form do not count; else the text is compared as it is.
    """
    if by not in (*KEYS, "unordered_pair"):
        known = ", ".join((*KEYS, "unordered_pair"))
        raise ConfigError(f"exact_duplicate: by is {by!r}; expected one of {known}")
    ranked = (
        rows.with_row_index("at")
        .select(*_keys(by, normalise), "at", "row_id", "weight", strength=(pl.col("p") - 0.5).abs())
        .sort(["strength", "weight", "at"], descending=[True, True, False], nulls_last=True)
    )
    keys = [name for name in ranked.columns if name.startswith("key_")]
    scored = ranked.select(
        "at",
        copies=pl.int_range(pl.len()).over(keys).cast(pl.Float64),
        kept=pl.col("row_id").first().over(keys),
    ).sort("at")
    matched = scored.select(pl.when(pl.col("copies") > 0).then("kept")).to_series()
    return Scores(scored["copies"], matched)


def _keys(by: str, normalise: bool) -> list[pl.Expr]:
    """The columns that equal rows share. A prompt id is the digest of its messages and tools."""

    def text(name: str) -> pl.Expr:
        return normalised(pl.col(name)) if normalise else pl.col(name)

    prompt = text("prompt") if normalise else pl.col("prompt_id")
    keys = [prompt.alias("key_prompt")]
    if by == "unordered_pair":
        keys.append(pl.min_horizontal(text("chosen"), text("rejected")).alias("key_low"))
        keys.append(pl.max_horizontal(text("chosen"), text("rejected")).alias("key_high"))
    else:
        keys += [text(name).alias(f"key_{name}") for name in KEYS[by]]
    return keys
