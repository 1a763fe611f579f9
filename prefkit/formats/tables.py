"""Parquet of prefkit's own schemas: written whole (zstd), read with the schema checked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from prefkit.core.errors import DataError, from_os_error
from prefkit.core.files import replacing
from prefkit.core.records import (
    Comparison,
    Completion,
    Example,
    Preference,
    Prompt,
    Task,
    Verdict,
    Vote,
)
from prefkit.formats.schema import SCHEMAS, from_table, to_table

R = TypeVar("R", Prompt, Completion, Comparison, Task, Vote, Preference, Example, Verdict)


def write_table(path: Path, table: pa.Table) -> None:
    """Write one Parquet file (zstd), whole or not at all."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_records(path: Path, records: Iterable[R], record_type: type[R]) -> None:
    """Write records as Parquet in their schema."""
    write_table(path, to_table(records, record_type))


def read_table(path: Path, record_type: type[R]) -> pa.Table:
    """Read a Parquet file that prefkit wrote; DataError if it is damaged or of another schema."""
    if not path.exists():  # pyarrow's own error has no errno to tell by
        raise DataError(f"{path}: no such file or folder", hint="check the path")
    try:
        table = pq.read_table(path)
    except OSError as error:
        raise from_os_error(error, path) or DataError(f"{path}: {error}") from None
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file: {error}") from None
    schema = SCHEMAS[record_type]
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise DataError(
            f"{path}: not a file of {record_type.__name__.lower()}s: "
            f"column {missing[0]!r} is missing",
        )
    try:
        return table.select(schema.names).cast(schema)
    except pa.ArrowException as error:
        raise DataError(f"{path}: not a file of {record_type.__name__.lower()}s: {error}") from None


def read_records(path: Path, record_type: type[R]) -> list[R]:
    """Read records that ``write_records`` wrote."""
    return from_table(read_table(path, record_type), record_type)
