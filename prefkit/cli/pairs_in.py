"""Pairs from a file or the Hub into a workspace that may have to be made for them first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prefkit.core.errors import ConfigError

if TYPE_CHECKING:
    from prefkit.annotation.settings import AnnotateSettings
    from prefkit.core.records import Comparison
    from prefkit.formats.rows import Rows
    from prefkit.workspace import Workspace

FILE_WORKSPACE = """\
# prefkit workspace, made by prefkit {verb} from {name}. Votes are in votes.db beside this file.
# Every key may be left out for its default; `prefkit init DIR` writes a file with all of them.

"""


def rows_at(source: str, *, split: str = "train", revision: str | None = None) -> Rows:
    """The rows of a file, of a folder that datasets saved, or of a Hub data set."""
    from prefkit.formats.load import rows_of

    return rows_of(source, split=split, revision=revision)


def origin_of(source: str) -> str:
    """How comparisons of this source are marked: a file's name, or a Hub id."""
    path = Path(source).expanduser()
    return path.name if path.exists() else source


def folder_for(source: str) -> Path:
    """NAME.prefkit beside a file; in this folder for a data set of the Hub."""
    path = Path(source).expanduser()
    beside = path if path.exists() else Path(path.name)
    # A folder's name may hold a dot; only a file's ending is taken off.
    name = beside.name if beside.is_dir() else beside.stem
    return beside.resolve().with_name(f"{name}.prefkit")


def settings_of(workspace: Workspace) -> AnnotateSettings:
    """The workspace's annotate section, or the defaults where there is no workspace yet."""
    from prefkit.rounds.project import Project, read_project
    from prefkit.settings import parse_settings

    if workspace.config_path.is_file():
        return read_project(workspace).annotate
    return parse_settings(Project, {}).annotate


def add_pairs(
    workspace: Workspace, comparisons: Sequence[Comparison], *, verb: str, made_from: str
) -> tuple[int, AnnotateSettings]:
    """Put comparisons into the workspace's store; how many were new, and its settings.

    A workspace that is not there is made, its configuration last: what is half made is none.
    """
    from prefkit.core.files import write_text
    from prefkit.settings import commented_yaml
    from prefkit.store import VoteStore
    from prefkit.workspace import CONFIG_NAME

    fresh = not workspace.config_path.is_file()
    settings = settings_of(workspace)
    with VoteStore.open(settings.store or workspace.store_path, home=workspace.path) as store:
        added = store.add(comparisons, settings.k, settings.overlap.most)
    if fresh:
        section = "".join(
            f"  {line}\n" if line else "\n"
            for line in commented_yaml(settings).rstrip("\n").split("\n")
        )
        header = FILE_WORKSPACE.format(verb=verb, name=made_from)
        write_text(workspace.path / CONFIG_NAME, f"{header}annotate:\n{section}")
    return added, settings


def pairs_of(
    source: str, *, mapping: Mapping[str, str], split: str, revision: str | None
) -> tuple[list[Comparison], dict[str, int]]:
    """The comparisons of a source and the counts, as ``read_comparisons`` gives them."""
    from prefkit.formats.comparisons import read_comparisons_of

    rows = rows_at(source, split=split, revision=revision)
    return read_comparisons_of(rows, origin=origin_of(source), mapping=mapping)


def check_folder(folder: Path, source: str) -> None:
    """ConfigError where the workspace would be a file that is there."""
    if folder.is_file():
        raise ConfigError(
            f"{folder}: is a file, not a workspace", hint=f"--into another folder for {source}"
        )
