"""What a lead can take away as a file: the votes, what is believed, and what other tools read.

Raters are ids in every one of them, and no rationale leaves here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefkit.aggregation import aggregate, build_examples, counted_votes
from prefkit.core.errors import DataError
from prefkit.core.records import Example
from prefkit.formats.export import EXPORTS, export, write_jsonl
from prefkit.formats.schema import to_table
from prefkit.store import VoteStore
from prefkit.store.pages import votes_after

_ROWS = 1000
_WORDS = ("rationale", "edit")
_PLAIN = {
    "votes": "every vote on the work, as it was cast, without its words: JSON lines",
    "preferences": "what is believed of each comparison: JSON lines",
    "parquet": "training examples in prefkit's own layout",
}


@dataclass(frozen=True, slots=True)
class Made:
    """A file in a folder that is deleted by ``folder.cleanup()``."""

    path: Path
    folder: TemporaryDirectory[str]


def kinds() -> dict[str, str]:
    """Name → what it is, of every file there is."""
    return {**_PLAIN, **{name: target.about for name, target in EXPORTS}}


def write(store: VoteStore, what: str, method: str) -> Made:
    """The file of this name. method: of aggregation. Raises DataError where nothing is believed
    yet, or the texts do not fit the target."""
    folder = TemporaryDirectory(prefix="prefkit-export-")
    path = Path(folder.name) / f"{what}.{'parquet' if what == 'parquet' else 'jsonl'}"
    try:
        if what == "votes":
            write_jsonl(path, _votes(store))
        else:
            _write_believed(store, what, path, method)
    except BaseException:
        folder.cleanup()
        raise
    return Made(path, folder)


def _votes(store: VoteStore) -> Iterator[dict[str, Any]]:
    seq = 0
    while page := votes_after(store.database, seq, _ROWS):
        for seq, vote, stands in page:  # noqa: B007  the next page starts after the last
            row: dict[str, Any] = {
                field.name: getattr(vote, field.name)
                for field in dataclasses.fields(vote)
                if field.name not in _WORDS
            }
            yield {**row, "aspects": dict(vote.aspects), "at": vote.at.isoformat(),
                   "stands": stands}  # fmt: skip


def _write_believed(store: VoteStore, what: str, path: Path, method: str) -> None:
    comparisons, votes = store.comparisons(), store.votes()
    preferences = aggregate(comparisons, votes, method=method)
    if not preferences:
        raise DataError(
            "no comparison has a vote for a side or a tie yet", hint="export the votes instead"
        )
    if what == "preferences":
        rows = [dataclasses.asdict(preference) for preference in preferences]
        for row in rows:
            row["votes"] = None if row["votes"] is None else json.loads(row["votes"])
        write_jsonl(path, rows)
        return
    examples, _ = build_examples(comparisons, preferences)
    bad = counted_votes(comparisons, votes).both_bad
    export(to_table(examples, Example), path, to=what,
           both_bad=[comparison for comparison in comparisons if comparison.id in bad])  # fmt: skip
