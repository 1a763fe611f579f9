"""The answers of a job on disk: Parquet chunks, each whole or absent; the truth for sampling.

A row is one request with all its samples, named by the digest of prompt, policy, sampling, seed
and n. Seeds are best effort (batched arithmetic rounds differently), so what was written once is
kept and never sampled again. Readers ignore temporary files and take the first row of a key.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prefkit.core.errors import DataError
from prefkit.core.files import clear_leftovers, holding
from prefkit.engines.base import Sample
from prefkit.formats.tables import write_table

CHUNK_SECONDS = 2.0
# A long job keeps its chunks few: the interval grows with the time already spent.
CHUNK_SHARE = 0.02

_SAMPLE = pa.struct(
    [("text", pa.string()), ("finish_reason", pa.string()), ("logprob", pa.float64())]
)
ANSWERS = pa.schema([("key", pa.string()), ("samples", pa.list_(_SAMPLE))])


def read_answers(folder: Path) -> dict[str, list[Sample]]:
    """Every finished request of a journal by key; empty where there is none yet."""
    found: dict[str, list[Sample]] = {}
    for path in sorted(folder.glob("chunk-*.parquet")):
        try:
            rows = pq.read_table(path, schema=ANSWERS).to_pylist()
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(
                f"{path}: damaged: {error}", hint="delete the file; its answers are sampled again"
            ) from None
        for row in rows:
            found.setdefault(row["key"], [Sample(**sample) for sample in row["samples"]])
    return found


class JournalWriter:
    """Collects answers and writes them as chunks every few seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started = self._flushed = time.monotonic()
        self._held: list[tuple[str, Sequence[Sample]]] = []
        self._number = 1 + max(
            (int(p.stem.split("-")[1]) for p in folder.glob("chunk-*.parquet")), default=0
        )

    def add(self, key: str, samples: Sequence[Sample]) -> None:
        """Hold one finished request; flush when the last chunk is old enough."""
        self._held.append((key, samples))
        now = time.monotonic()
        if now - self._flushed >= max(CHUNK_SECONDS, CHUNK_SHARE * (now - self._started)):
            self.flush()

    def flush(self) -> None:
        """Write what is held as one chunk."""
        if not self._held:
            return
        rows: list[Mapping[str, object]] = [
            {"key": key, "samples": [sample._asdict() for sample in samples]}
            for key, samples in self._held
        ]
        table = pa.Table.from_pylist(rows, schema=ANSWERS)
        write_table(self.folder / f"chunk-{self._number:06d}.parquet", table)
        self._number += 1
        self._held = []
        self._flushed = time.monotonic()


@contextmanager
def writing(folder: Path) -> Iterator[JournalWriter]:
    """The one writer of a journal; waits while a dying predecessor still holds it.

    What is held is flushed on the way out, also out of an error or an interrupt.
    """
    with holding(folder / ".lock"):
        clear_leftovers(folder)
        writer = JournalWriter(folder)
        try:
            yield writer
        finally:
            writer.flush()
