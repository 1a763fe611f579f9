"""One spelling for texts that a reader would call the same."""

from __future__ import annotations

import polars as pl


def normalised(text: pl.Expr) -> pl.Expr:
    """``text`` in NFKC, lower case, every run of white space as one space, ends stripped."""
    return (
        text.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    )
