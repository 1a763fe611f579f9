"""What a curation gives back: rows kept and dropped, the ledger, the counts, the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.core.errors import DataError
from prefkit.core.files import write_json
from prefkit.core.registry import did_you_mean
from prefkit.curation.recipe import Recipe
from prefkit.formats.load import Loaded
from prefkit.formats.schema import VERDICTS
from prefkit.formats.tables import write_table


@dataclass(frozen=True, slots=True)
class Decision:
    """What one stage dropped: indices at (k,), and reason, score and matched row of each."""

    stage: str
    at: Any
    reason: Any
    score: Any
    threshold: str
    matched: Sequence[str | None]
    n_abstained: int


@dataclass(frozen=True)
class Curation:
    """The outcome of one recipe on one table.

    kept: Examples. dropped: Examples with row_id, stage, reason, score and matched_row. ledger:
    one Verdict a row, kept rows too, in row order. scores: row_id and one column a stage, null
    where the filter abstained or did not look. Row i of the input is row i of ledger and scores.
    """

    kept: pa.Table
    dropped: pa.Table
    ledger: pa.Table
    scores: pa.Table
    recipe: Recipe
    loaded: Loaded = field(repr=False)
    abstained: Mapping[str, int]
    _kept_rows: Any = field(repr=False)
    _given: Any = field(repr=False)

    @classmethod
    def of(
        cls,
        loaded: Loaded,
        recipe: Recipe,
        rows: pl.DataFrame,
        scores: Mapping[str, pl.Series],
        decisions: Sequence[Decision],
        given: Any,
    ) -> Curation:
        """Put the decisions of all stages together."""
        ledger = _ledger(rows, recipe, decisions)
        is_kept = (ledger["action"] == "keep").to_numpy()
        table, dropped = loaded.table, ledger.filter(~pl.Series(is_kept))
        gone = table.filter(pa.array(~is_kept))
        for name in ("row_id", "stage", "reason", "score", "matched_row"):
            gone = gone.append_column(name, _arrow(dropped[name]))
        return cls(
            kept=table.filter(pa.array(is_kept)),
            dropped=gone,
            ledger=pa.table({n: _arrow(ledger[n]) for n in VERDICTS.names}).cast(VERDICTS),
            scores=pa.table(
                {n: _arrow(s) for n, s in {"row_id": rows["row_id"], **scores}.items()}
            ),
            recipe=recipe,
            loaded=loaded,
            abstained={d.stage: d.n_abstained for d in decisions if d.n_abstained},
            _kept_rows=np.flatnonzero(is_kept),
            _given=given,
        )

    def dropped_by_reason(self) -> dict[str, int]:
        """Rows dropped by each stage, in the recipe's order; stages that dropped none too."""
        stages = self.dropped.column("stage").to_pylist()
        return {name: stages.count(name) for name, *_ in self.recipe.running()}

    @property
    def counts(self) -> dict[str, Any]:
        """n_rows = n_kept + n_dropped; dropped by stage; rows that could not be read as pairs."""
        return {
            "recipe": self.recipe.label,
            **{n: v for n, v in self.loaded.counts.items() if n != "n_examples"},
            "n_rows": self.ledger.num_rows,
            "n_kept": self.kept.num_rows,
            "n_dropped": self.dropped.num_rows,
            "dropped": self.dropped_by_reason(),
            "abstained": dict(self.abstained),
        }

    def why(self, row_id: str) -> dict[str, Any]:
        """The verdict on a row and all its scores; DataError if there is no such row."""
        ids = self.ledger.column("row_id").to_pylist()
        if row_id not in ids:
            raise DataError(f"no row {row_id!r}{did_you_mean(row_id, ids[:100_000])}")
        at = ids.index(row_id)
        scores = self.scores.slice(at, 1).to_pylist()[0]
        return {**self.ledger.slice(at, 1).to_pylist()[0], "scores": scores | {"row_id": row_id}}

    def kept_as_given(self) -> Any:
        """The rows kept, in the type and with the columns of the data given.

        A Dataset, a pandas or polars frame, an Arrow table or a list; for a path or a Hub id the
        kept Examples.
        """
        if self._given is None:
            return self.kept
        source = self.loaded.rows
        rows = [source[at] for at in self._kept_rows]
        match type(self._given).__module__.split(".")[0]:
            case "datasets":
                return self._given.select(rows)
            case "pandas":
                return self._given.iloc[rows]
            case "polars":
                if isinstance(self._given, pl.LazyFrame):
                    return self._given.collect()[rows].lazy()
                return self._given[rows]
            case "pyarrow":
                return self._given.take(pa.array(rows, pa.int64()))
            case _:
                return [self._given[at] for at in rows]

    def write(self, folder: Path | str) -> None:
        """Write examples, dropped, ledger and scores as Parquet, and curation.json last.

        An older curation.json goes first: it does not describe what is half-written.
        """
        folder = Path(folder)
        (folder / "curation.json").unlink(missing_ok=True)
        tables = {
            "examples": self.kept,
            "dropped": self.dropped,
            "ledger": self.ledger,
            "scores": self.scores,
        }
        for name, table in tables.items():
            write_table(folder / f"{name}.parquet", table)
        resolved = self.recipe.model_dump(mode="json")
        write_json(
            folder / "curation.json",
            {
                "source": self.loaded.source,
                "layout": self.loaded.layout,
                "counts": self.counts,
                "recipe": resolved,
                "unusable": [{"place": p, "reason": r} for p, r in self.loaded.unusable],
            },
        )


def _arrow(series: pl.Series) -> Any:
    """Arrow with plain strings: polars' large ones are a second type for the same thing."""
    array = series.to_arrow()
    return array.cast(pa.string()) if series.dtype == pl.String else array


def _ledger(rows: pl.DataFrame, recipe: Recipe, decisions: Sequence[Decision]) -> pl.DataFrame:
    """One terminal verdict a row, in row order: the stage that dropped it, or keep."""
    n = rows.height
    stage = np.full(n, "recipe", dtype=object)
    action = np.full(n, "keep", dtype=object)
    reason = np.full(n, "passed", dtype=object)
    threshold, matched = np.full(n, None, dtype=object), np.full(n, None, dtype=object)
    score = np.full(n, np.nan)
    for decision in decisions:
        at = decision.at
        stage[at], action[at], threshold[at] = decision.stage, "drop", decision.threshold
        reason[at], score[at], matched[at] = decision.reason, decision.score, decision.matched
    return pl.DataFrame(
        {
            "row_id": rows["row_id"],
            "stage": pl.Series(stage.tolist(), dtype=pl.String),
            "action": pl.Series(action.tolist(), dtype=pl.String),
            "reason": pl.Series([str(r) for r in reason], dtype=pl.String),
            "score": pl.Series(score, nan_to_null=True),
            "threshold": pl.Series(threshold.tolist(), dtype=pl.String),
            "matched_row": pl.Series(matched.tolist(), dtype=pl.String),
            "recipe": pl.Series([recipe.label] * n, dtype=pl.String),
        }
    )
