"""Statements that every vote runs, past SQLAlchemy's cursors: those take longer than SQLite."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import PoolProxiedConnection
from sqlalchemy.exc import DBAPIError


class Found:
    """What a ``Quick`` statement gave, read whole: named tuples, and how many rows it changed."""

    __slots__ = ("rowcount", "rows")

    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self.rows = rows
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def all(self) -> list[Any]:
        """Every row."""
        return self.rows

    def first(self) -> Any:
        """The first row, or None."""
        return self.rows[0] if self.rows else None

    def one(self) -> Any:
        """The only row; LookupError where there is another number of them."""
        if len(self.rows) != 1:
            raise LookupError(f"{len(self.rows)} rows where there is always one")
        return self.rows[0]

    def scalar(self) -> Any:
        """The first cell of the first row, or None."""
        return self.rows[0][0] if self.rows else None

    def scalars(self) -> list[Any]:
        """The first cell of every row."""
        return [row[0] for row in self.rows]


@dataclass(slots=True)
class _Prepared:
    """A statement for one kind of database. take, give: what converts its values and cells.

    fixed: values that are part of the statement.
    """

    sql: str
    names: Sequence[str] | None  # in their places; None where the driver takes them by name
    fixed: Mapping[str, Any]
    take: Mapping[str, Callable[[Any], Any]]
    give: Sequence[tuple[int, Callable[[Any], Any]]]
    row: Callable[[Iterable[Any]], Any] | None = None

    def given(self, values: Mapping[str, Any]) -> Any:
        """``values`` as the driver takes them."""
        if self.fixed:
            values = {**self.fixed, **values}
        for name, convert in self.take.items():
            values = {**values, name: convert(values[name])}
        return values if self.names is None else [values[name] for name in self.names]


class Quick:
    """A statement that is compiled once and run on the driver's own cursor.

    For what every vote runs: SQLAlchemy takes longer for a statement than SQLite does. Values and
    cells of a Core statement are converted by the types of its columns. Plain SQL, with ``:name``
    for its values, is for texts and numbers: a boolean comes back as 0 or 1 from SQLite.
    values: the columns that an INSERT or UPDATE sets.
    """

    def __init__(
        self,
        statement: str | sa.ClauseElement,
        postgresql: str | None = None,
        values: Iterable[str] | None = None,
    ) -> None:
        self._statement = statement
        self._postgresql = postgresql
        self._values = None if values is None else list(values)
        self._prepared: dict[str, _Prepared] = {}

    def __call__(self, connection: sa.Connection, **values: Any) -> Found:
        """Run it with these values, in the transaction of ``connection``."""
        return self.run(connection.dialect, connection.connection, values)

    def run(
        self, dialect: sa.Dialect, connection: PoolProxiedConnection, values: Mapping[str, Any]
    ) -> Found:
        """Run it on a connection of the driver."""
        prepared = self._prepared.get(dialect.name) or self._prepare(dialect)
        with _cursor(dialect, connection, prepared.sql) as cursor:
            cursor.execute(prepared.sql, prepared.given(values))
            rows = [] if cursor.description is None else _rows(prepared, cursor)
            return Found(rows, cursor.rowcount)

    def many(self, connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Run it with each of ``rows`` as its values."""
        dialect = connection.dialect
        prepared = self._prepared.get(dialect.name) or self._prepare(dialect)
        with _cursor(dialect, connection.connection, prepared.sql) as cursor:
            cursor.executemany(prepared.sql, [prepared.given(values) for values in rows])

    def _prepare(self, dialect: sa.Dialect) -> _Prepared:
        statement: Any = self._statement
        if dialect.name == "postgresql" and self._postgresql is not None:
            statement = self._postgresql
        if isinstance(statement, str):
            statement = sa.text(statement)
        compiled = statement.compile(dialect=dialect, column_keys=self._values)
        takes = {
            name: bind.type.dialect_impl(dialect).bind_processor(dialect)
            for name, bind in compiled.binds.items()
        }
        cells = list(getattr(statement, "selected_columns", ()))
        gives = [cell.type.dialect_impl(dialect).result_processor(dialect, None) for cell in cells]
        prepared = _Prepared(
            str(compiled),
            compiled.positiontup,
            {name: bind.value for name, bind in compiled.binds.items() if not bind.required},
            {name: take for name, take in takes.items() if take is not None},
            [(index, give) for index, give in enumerate(gives) if give is not None],
        )
        self._prepared[dialect.name] = prepared
        return prepared


@contextmanager
def _cursor(dialect: sa.Dialect, connection: PoolProxiedConnection, sql: str) -> Generator[Any]:
    """A cursor of the driver, whose errors come as SQLAlchemy's."""
    cursor = connection.cursor()
    error_of_driver = dialect.loaded_dbapi.Error
    try:
        yield cursor
    except error_of_driver as error:
        raise DBAPIError.instance(sql, None, error, error_of_driver, dialect=dialect) from error
    finally:
        cursor.close()


def _rows(prepared: _Prepared, cursor: Any) -> list[Any]:
    """All rows of ``cursor`` as named tuples, their cells converted."""
    if prepared.row is None:
        names = [column[0] for column in cursor.description]
        prepared.row = namedtuple("Row", names, rename=True)._make  # type: ignore[misc]
    if not prepared.give:
        return [prepared.row(cells) for cells in cursor.fetchall()]
    rows: list[Any] = []
    for cells in map(list, cursor.fetchall()):
        for index, give in prepared.give:
            cells[index] = give(cells[index])
        rows.append(prepared.row(cells))
    return rows
