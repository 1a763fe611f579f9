"""Files of rows as they lie on disk: JSONL, JSON, CSV, TSV, Parquet, Arrow, each also as .gz.

Every row keeps its place ("pairs.jsonl:17") so that a fault can be found with an editor. Knows
nothing of what the columns mean.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast, overload

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from prefkit.core.errors import DataError, from_os_error

Row = Mapping[str, Any]
SHOWN_FAULTS = 5
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows and where they stand.

    lines: the line of each row, counted from 1, or None where a row has no line (Parquet, a
    JSON array, a data frame). table: the Arrow table the rows came from, if they did. texts: every
    cell is text because the file knows nothing else (CSV). places: where each row stands, in words,
    for rows of several files.
    """

    source: str
    values: Sequence[Row]
    lines: Sequence[int] | None = None
    table: pa.Table | None = None
    texts: bool = False
    places: Sequence[str] | None = None

    def place(self, index: int) -> str:
        """Where row ``index`` (from 0) stands: "pairs.jsonl:17" or "pairs.parquet: row 17"."""
        if self.places is not None:
            return self.places[index]
        if self.lines is not None:
            return f"{self.source}:{self.lines[index]}"
        return f"{self.source}: row {index + 1}"

    def fault(self, index: int, what: str, hint: str | None = None) -> DataError:
        """The error for row ``index``."""
        return DataError(f"{self.place(index)}: {what}", hint=hint)

    @property
    def columns(self) -> list[str]:
        """All column names, in the order in which they first appear."""
        if self.table is not None:
            return list(self.table.column_names)
        return list(dict.fromkeys(name for row in self.values for name in row))


def first_faults(faults: Sequence[str]) -> str:
    """The first five faults, a line each, and how many more there are."""
    more = len(faults) - SHOWN_FAULTS
    lines = [*faults[:SHOWN_FAULTS], *([f"and {more} more rows"] if more > 0 else [])]
    return "\n".join(lines)


def is_row_file(path: Path) -> bool:
    """Whether the name ends like a file that ``read_rows`` reads."""
    return _suffix(path) in SUFFIXES


def read_rows(path: Path) -> Rows:
    """All rows of a file; DataError with file and line for anything that is not a row.

    A file without rows is an error: nothing downstream can do with it.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", hint="check the path")
    try:
        rows = _READERS.get(_suffix(path), _unknown)(path)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None
    if not rows.values:
        raise DataError(f"{path}: the file has no rows", hint="check that it was written fully")
    return rows


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1; split on \\n only."""
    try:
        data = _bytes(path)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None
    return [
        (number, text.removesuffix("\r"))
        for number, line in enumerate(data.split(b"\n"), start=1)
        if (text := _decode(path, number, line)).strip()
    ]


def rows_of_table(table: pa.Table, source: str) -> Rows:
    """Rows of an Arrow table."""
    return Rows(source, _TableRows(table), None, table)


class _TableRows(Sequence[Row]):
    """The rows of a table as dicts, made when asked for: a table of Examples never is."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return self._table.num_rows

    def __iter__(self) -> Iterator[Row]:
        for batch in self._table.to_batches(max_chunksize=4096):
            yield from batch.to_pylist()

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return _TableRows(self._table.take(list(range(*index.indices(len(self))))))
        return cast(Row, self._table.slice(range(len(self))[index], 1).to_pylist()[0])


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _bytes(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.name.lower().endswith(".gz") else data


def _unreadable(path: Path, error: Exception) -> DataError:
    known = from_os_error(error, path) if isinstance(error, OSError) else None
    if known is not None:
        raise known from None
    return DataError(f"{path}: cannot be read: {error}", hint="is the file damaged or cut short?")


def _decode(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number}: not UTF-8: byte 0x{line[error.start]:02x} at byte {error.start + 1}",
            hint="convert the file to UTF-8 (iconv -f LATIN1 -t UTF-8)",
        ) from None


_A_LINE = 'write one object a line, {"column": value, …}, with text in double quotes'
_PLAIN = "write null where there is no value, and nest no deeper than data need"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value; write null")


def _object(path: Path, number: int, text: str) -> Row:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{number}: not JSON: {error.msg} at column {error.colno}", hint=_A_LINE
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:{number}: not JSON: {error}", hint=_PLAIN) from None
    if not isinstance(value, dict):
        raise DataError(
            f"{path}:{number}: expected an object {{...}}, "
            f"found {type(value).__name__}: {_short(value)}",
            hint=_A_LINE,
        )
    return cast(Row, value)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _jsonl(path: Path) -> Rows:
    # Split on b"\n" alone: U+2028 and U+0085 stand unescaped inside strings of real files, and
    # str.splitlines would cut there.
    lines = read_lines(path)
    values = [_object(path, number, text) for number, text in lines]
    return Rows(str(path), values, [number for number, _ in lines])


def _json(path: Path) -> Rows:
    """An array of objects; else one object a line, which the Hub also calls .json."""
    data = _bytes(path)
    if not data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        return _jsonl(path)
    # Bad UTF-8 is found by line first, so that the message can name one.
    text = "\n".join(_decode(path, n, line) for n, line in enumerate(data.split(b"\n"), 1))
    try:
        values = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: not JSON: {error.msg}",
            hint="mend this line: an array holds objects with commas between them, text in double "
            "quotes",
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:1: not JSON: {error}", hint=_PLAIN) from None
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise DataError(
                f"{path}: row {index + 1}: expected an object {{...}}, "
                f"found {type(value).__name__}: {_short(value)}",
                hint='write each row as {"column": value, …}',
            )
    return Rows(str(path), values)


def _csv(path: Path) -> Rows:
    data = _bytes(path)
    for number, line in enumerate(data.split(b"\n"), start=1):
        _decode(path, number, line)
    stream = io.StringIO(data.decode("utf-8-sig"), newline="")
    limit = csv.field_size_limit(sys.maxsize)  # the default, 128 KiB, is less than a long answer
    try:
        reader = csv.reader(stream, delimiter="\t" if _suffix(path) == ".tsv" else ",", strict=True)
        return _csv_rows(path, reader)
    finally:
        csv.field_size_limit(limit)


def _csv_rows(path: Path, reader: Any) -> Rows:
    values: list[Row] = []
    lines: list[int] = []
    header: list[str] | None = None
    start = 1
    try:
        for fields in reader:
            if header is None:
                header = _header(path, fields)
            elif fields:
                if len(fields) != len(header):
                    raise DataError(
                        f"{path}:{start}: {len(fields)} fields, but the header has {len(header)}",
                        hint='put quotes around fields that hold commas: "a, b"',
                    )
                # CSV has no null; an empty field of an optional column means "not given".
                values.append(dict(zip(header, fields, strict=True)))
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}:{start}: not CSV: {error}",
            hint='put a field with quotes or line breaks into quotes, with "" for each quote in it',
        ) from None
    return Rows(str(path), values, lines, texts=True)


def _header(path: Path, fields: list[str]) -> list[str]:
    names = [name.strip() for name in fields]
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise DataError(
            f"{path}:1: column {doubled[0]!r} stands twice in the header", hint="rename one of them"
        )
    return names


def _arrow(path: Path) -> Rows:
    source = pa.BufferReader(_bytes(path)) if path.name.lower().endswith(".gz") else path
    try:
        if _suffix(path) == ".parquet":
            table = pq.read_table(source)
        else:
            table = _feather_or_stream(source)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not a {_suffix(path)[1:]} file: {error}",
            hint="was it written fully, and does its name end as what it is?",
        ) from None
    return rows_of_table(table, str(path))


def _feather_or_stream(source: Any) -> pa.Table:
    """Arrow's file format; else its stream format, which the datasets library caches in."""
    try:
        return cast(pa.Table, feather.read_table(source))
    except pa.ArrowInvalid:
        opened = source if isinstance(source, pa.BufferReader) else pa.OSFile(str(source))
        opened.seek(0)
        with opened, pa.ipc.open_stream(opened) as stream:
            return stream.read_all()


def _unknown(path: Path) -> Rows:
    if path.is_dir():
        raise DataError(f"{path}: a folder, not a file of rows", hint="name a file in it")
    raise DataError(
        f"{path}: unknown kind of file {_suffix(path)!r}",
        hint=f"known: {', '.join(SUFFIXES)}, each also with .gz",
    )


_READERS = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _arrow,
    ".arrow": _arrow,
    ".feather": _arrow,
}
