"""Row filters on what the answers say and what is believed of them."""

from __future__ import annotations

import polars as pl

from prefkit.curation.filters import Band, row_filter
from prefkit.similarity import normalised


@row_filter("empty_answer", unit="characters", band=Band(min=1))
def empty_answer(rows: pl.DataFrame) -> pl.Series:
    """Characters of the shorter answer, white space at its ends not counted."""
    lengths = [pl.col(side).str.strip_chars().str.len_chars() for side in ("chosen", "rejected")]
    return rows.select(pl.min_horizontal(*lengths)).to_series()


@row_filter("identical_pair", unit="1 where the answers are equal", band=Band(max=0))
def identical_pair(rows: pl.DataFrame, *, normalise: bool = True) -> pl.Series:
    """1 where chosen and rejected are the same text, else 0.

    normalise: differences in case, white space and Unicode form do not count.
    """
    chosen, rejected = pl.col("chosen"), pl.col("rejected")
    if normalise:
        chosen, rejected = normalised(chosen), normalised(rejected)
    return rows.select((chosen == rejected).cast(pl.Float64)).to_series()


@row_filter("length_ratio", unit="chosen characters / rejected characters", band=Band(0.1, 10))
def length_ratio(rows: pl.DataFrame) -> pl.Series:
    """Length of the chosen answer over that of the rejected one; None where one is empty."""
    chosen, rejected = pl.col("chosen").str.len_chars(), pl.col("rejected").str.len_chars()
    both = (chosen > 0) & (rejected > 0)
    return rows.select(pl.when(both).then(chosen / rejected)).to_series()


@row_filter("tie", unit="|p - 0.5|", band=Band(min=0.01))
def tie(rows: pl.DataFrame) -> pl.Series:
    """Distance of p from a tie, 0 to 0.5: rows below the band say too little to train on."""
    return (rows["p"] - 0.5).abs()
