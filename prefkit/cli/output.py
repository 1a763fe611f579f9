"""What the commands print: the result on stdout, progress and messages on stderr.

Model and user text is untrusted: ``plain`` strips control characters, and every table cell is
printed without rich markup.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from prefkit.core.errors import PrefkitError
from prefkit.core.progress import Progress

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def plain(text: object) -> str:
    """``text`` without control characters: model output must not drive the terminal."""
    return "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(text)
    )


def say(text: str) -> None:
    """A message on stderr."""
    stderr.print(Text(plain(text)))


def show_error(error: PrefkitError) -> None:
    """What, where and the mend, on stderr."""
    for line in error.message.splitlines():
        stderr.print(Text.assemble(("error: ", "bold red"), plain(line)))
    if error.hint:
        stderr.print(Text.assemble(("  fix: ", "bold"), plain(error.hint)))


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on one line: the last line of stdout under ``--json``.

    In ASCII: some readers end a line at U+2028 too, and not every stdout takes every character.
    """
    sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
    sys.stdout.flush()


def facts_table(title: str, facts: Sequence[tuple[str, object]]) -> Table:
    """Two columns: a name and a value."""
    table = Table(
        title=Text(title, style="bold"), title_justify="left", box=None, show_header=False
    )
    table.add_column(style="dim")
    table.add_column()
    for name, value in facts:
        table.add_row(Text(plain(name)), Text(plain(value)))
    return table


def rows_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table with a header line."""
    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False)
    for name in header:
        table.add_column(name)
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    return table


def finish(
    value: Mapping[str, Any],
    *,
    as_json: bool,
    screen: Sequence[Table | str],
    next_command: str = "",
) -> None:
    """Print the result: the screen, or under ``--json`` the one line."""
    if as_json:
        print_json(value)
        return
    for block in screen:
        stdout.print(Text(plain(block)) if isinstance(block, str) else block)
    if next_command:
        stdout.print(Text.assemble(("next: ", "bold"), plain(next_command)))


@contextmanager
def progress_bars() -> Generator[Progress]:
    """A Progress that draws bars on stderr; lines instead of bars where stderr is no terminal."""
    if not stderr.is_terminal:
        yield _Lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Bars(*columns, console=stderr, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int | None = None, note: str = "") -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(plain(what), total=total, note="")
            bars.update(tasks[what], completed=done, total=total, note=plain(note))

        yield report


class _Lines:
    """Progress for a log file: a line at the start, each quarter and the end of a stage."""

    def __init__(self) -> None:
        self._printed: dict[str, int] = {}

    def __call__(self, what: str, done: int, total: int | None = None, note: str = "") -> None:
        quarter = 4 if total == done else (4 * done // total if total else 0)
        if self._printed.get(what) != quarter:
            self._printed[what] = quarter
            count = f"{done}" + (f"/{total}" if total is not None else "")
            say(f"{what}: {count}" + (f", {note}" if note else ""))
