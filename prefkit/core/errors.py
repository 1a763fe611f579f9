"""The errors that a user can mend.

    PrefkitError
    ├── ConfigError        a key or value in prefkit.yaml, a recipe or --set
    ├── DataError          a file or row that is not what it must be
    ├── ModelError         a model that cannot be found, read or used
    ├── StoreError         the vote store: wrong version, locked, damaged
    ├── WorkspaceError     a project folder or a stage of it
    ├── TrainingError      a loss or gradient that is no longer finite
    ├── EngineError        a text engine that did not start or stopped
    ├── ToldElsewhere      a fault of another process of this run, which tells it
    └── EnvironmentFault   disk, port, memory, a missing optional package
        └── MissingExtra

Each carries what is wrong (``message``, which names the place and the value) and the mend
(``hint``). The command line prints both without a traceback and exits with 1. Anything else
that escapes is our own bug and keeps its traceback.
"""

from __future__ import annotations

import errno
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType


class PrefkitError(Exception):
    """Something the user can mend; ``str()`` is the message, ``hint`` the mend."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(PrefkitError):
    """A configuration key or value."""


class DataError(PrefkitError):
    """A file or row that is not what it must be."""


class ModelError(PrefkitError):
    """A model that cannot be found, read or used."""


class StoreError(PrefkitError):
    """The vote store."""


class WorkspaceError(PrefkitError):
    """A project folder or a stage of it."""


class TrainingError(PrefkitError):
    """A training run that cannot go on: its loss or gradient is no longer finite."""


class EngineError(PrefkitError):
    """A text engine that did not start, or stopped before it was done."""


class ToldElsewhere(PrefkitError):
    """Another process of this run stops with this fault and prints it; this one need not."""


class EnvironmentFault(PrefkitError):
    """The machine: disk, port, memory, packages."""


class MissingExtra(EnvironmentFault):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"the package {package!r} is not installed",
            hint=f"pip install 'prefkit[{extra}]'",
        )
        self.package = package
        self.extra = extra


def require(package: str, extra: str) -> ModuleType:
    """Import ``package`` or raise MissingExtra naming the extra that brings it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == package.split(".")[0]:
            raise MissingExtra(package, extra) from None
        raise


def require_folder(package: str, extra: str) -> Path:
    """The folder of an installed package, found without importing it, or MissingExtra.

    For packages that are wanted for a data file and whose code needs more than that file.
    """
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise MissingExtra(package, extra)
    return Path(found.origin).parent


def from_os_error(error: OSError, path: object) -> PrefkitError | None:
    """The PrefkitError for an OSError that a user can mend, or None for one that is ours."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return EnvironmentFault(
                f"{path}: the disk is full",
                hint="free some space and run the same command again; finished work is kept",
            )
        case errno.EFBIG:
            return EnvironmentFault(
                f"{path}: this disk or user may not hold a file of that size",
                hint="choose a folder on another disk, or raise the limit (ulimit -f)",
            )
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return EnvironmentFault(
                f"{path}: no permission to write or read here",
                hint="choose another folder or change its permissions",
            )
        case errno.ENOENT:
            return DataError(f"{path}: no such file or folder", hint="check the path")
        case errno.EISDIR | errno.ENOTDIR | errno.EEXIST | errno.ENAMETOOLONG | errno.ELOOP:
            return DataError(f"{path}: {error.strerror}", hint="check the path")
        case errno.EADDRINUSE:
            return EnvironmentFault(f"{path}: the port is in use", hint="choose another --port")
        case _:
            return None
