"""Files that are whole or absent: write beside, fsync, rename. Digests of files.

A kill may leave ``*.tmp-<pid>`` behind: readers ignore them, ``clear_leftovers`` removes them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prefkit.core.errors import DataError, PrefkitError, from_os_error


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Yield a temporary path beside ``path``; on success fsync it and rename it into place.

    On any failure the temporary file is removed and ``path`` is as it was.
    """
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        fsync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        mend = _mendable(error, path)
        if mend is None:
            raise
        raise mend from error


@contextmanager
def replacing_folder(folder: Path) -> Generator[Path]:
    """Yield an empty temporary folder beside ``folder``; on success rename it into its place.

    Its files are fsynced and made readable for all first; a folder that stood there before is
    gone afterwards. On any failure the temporary folder is removed and ``folder`` is as it was.
    """
    temporary = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    earlier = folder.with_name(f"{temporary.name}-earlier")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                path.chmod(0o644)
                with open(path, "rb") as handle:
                    os.fsync(handle.fileno())
        if folder.exists():
            os.rename(folder, earlier)
        os.rename(temporary, folder)
        fsync_folder(folder.parent)
    except BaseException as error:
        if earlier.exists() and not folder.exists():
            os.rename(earlier, folder)
        mend = _mendable(error, folder)
        if mend is None:
            raise
        raise mend from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(earlier, ignore_errors=True)


_NATIVE = re.compile(r"\(os error (\d+)\)")  # how Rust (safetensors, tokenizers) names errno


def _mendable(error: BaseException, path: Path) -> PrefkitError | None:
    """The PrefkitError for a fault of the disk, also one that a native library wrapped."""
    if isinstance(error, OSError):
        return from_os_error(error, path)
    native = None if isinstance(error, PrefkitError) else _NATIVE.search(str(error))
    return from_os_error(OSError(int(native[1]), str(error)), path) if native else None


def fsync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; DataError with the line if it is malformed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise from_os_error(error, path) or error from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        line = getattr(error, "lineno", 1)
        raise DataError(
            f"{path}:{line}: not JSON: {error}",
            hint="mend this line, or make the file again: it may have been cut short",
        ) from None


def file_digest(path: Path) -> str:
    """BLAKE2b-128 of a file's bytes, or of a folder's relative paths and bytes, in order."""
    digest = hashlib.blake2b(digest_size=16)
    members = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for member in members:
        if path.is_dir():
            digest.update(str(member.relative_to(path)).encode() + b"\0")
        with open(member, "rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


# SQLite adds its journal's name, replacing_folder that of the folder it puts aside.
_TEMPORARY = re.compile(r"\.tmp-(\d+)(?:-journal|-earlier)?$")


def clear_leftovers(folder: Path, *, names: Iterable[str] | None = None) -> None:
    """Remove the temporary files and folders that a killed run left in ``folder`` and below.

    names: those of these names, in ``folder`` itself, only. Those of another process that is at
    work stay: it is about to rename them.
    """
    if names is None:
        found = list(folder.rglob("*.tmp-*"))
    else:
        found = [path for name in names for path in folder.glob(f"{name}.tmp-*")]
    for leftover in found:
        written = _TEMPORARY.search(leftover.name)
        if not written:
            continue
        process = int(written.group(1))
        if process != os.getpid() and is_running(process):
            continue
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Whether there is a process of this id; True for one that is another user's."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def holding(lock: Path, *, busy: PrefkitError | None = None) -> Generator[None]:
    """Hold the file ``lock`` (made with its folder) against other processes.

    Waits for another holder, or raises ``busy`` at once where given. The lock is the kernel's and
    dies with its process, so a kill leaves none behind.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise from_os_error(error, lock.parent) or error from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            assert busy is not None
            raise busy from None
        yield
    finally:
        os.close(descriptor)
