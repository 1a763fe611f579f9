"""What other annotation tools exported → comparisons and votes. One entry a tool in IMPORTS.

A reader says who judged which row and what they said, in that tool's words (source.py); words.py
says what the words mean, build.py makes the records. Adding a tool is adding a reader.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prefkit.core.errors import DataError
from prefkit.core.registry import Registry
from prefkit.formats.imports.argilla import is_argilla, read_argilla
from prefkit.formats.imports.build import Imported, build
from prefkit.formats.imports.label_studio import is_label_studio, read_label_studio
from prefkit.formats.imports.potato import is_potato, read_potato
from prefkit.formats.imports.source import Asked, Source
from prefkit.formats.imports.words import Words
from prefkit.formats.rows import Rows

__all__ = ["IMPORTS", "Asked", "Imported", "Words", "format_of", "import_rows"]


@dataclass(frozen=True, slots=True)
class ImportFormat:
    """One tool's export. is_it: whether rows look like it. read: what was judged in them."""

    name: str
    about: str
    is_it: Callable[[Rows], bool]
    read: Callable[[Rows, Asked], Source]


IMPORTS: Registry[ImportFormat] = Registry("import format", "prefkit.imports")
for _format in (
    ImportFormat(
        "label-studio",
        "Label Studio's JSON export: Pairwise and Choices",
        is_label_studio,
        read_label_studio,
    ),
    ImportFormat(
        "argilla",
        "Argilla's records as a data set, with responses and their status",
        is_argilla,
        read_argilla,
    ),
    ImportFormat(
        "potato",
        "Potato's annotated_instances.jsonl, annotations.jsonl or output folder",
        is_potato,
        read_potato,
    ),
):
    IMPORTS.add(_format.name, _format)


def format_of(rows: Rows) -> str | None:
    """The name of the tool that exported ``rows``; None for rows of pairs without votes."""
    found = [name for name, entry in IMPORTS if entry.is_it(rows)]
    if len(found) > 1:
        raise DataError(
            f"{rows.source}: may be {' or '.join(found)}", hint=f"say which: --from {found[0]}"
        )
    return found[0] if found else None


def import_rows(rows: Rows, name: str, asked: Asked, words: Words) -> Imported:
    """The comparisons and votes of an export, read as ``name`` (a key of IMPORTS).

    Raises DataError for what is malformed, unless ``asked`` says to leave it out, and where the
    columns of the answers or the question are not certain.
    """
    return build(IMPORTS.get(name).read(rows, asked), asked, words)
