"""A real PostgreSQL server, started here and thrown away."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components import require_component
from ports import free_port


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not found and not on_path:
        require_component("postgresql", "no initdb in /usr/lib/postgresql/*/bin")
    return found[-1].parent if found else Path(str(on_path)).parent


def _unprivileged() -> list[str]:
    """The prefix that runs a command as a user PostgreSQL accepts: root is refused."""
    if os.geteuid() != 0:
        return []
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        require_component("postgresql", "running as root, and there is no user postgres")
    return ["runuser", "-u", "postgres", "--"]


@contextmanager
def postgres_server(*, fsync: bool = False) -> Iterator[str]:
    """The address of the server's own database; fsync on for what measures or kills."""
    binaries, prefix = _binaries(), _unprivileged()
    folder = tempfile.mkdtemp(prefix="prefkit-pg-")
    if prefix:
        shutil.chown(folder, "postgres")
    data = f"{folder}/data"

    def run(*command: str) -> None:
        subprocess.run(
            [*prefix, *command], check=True, capture_output=True, text=True, cwd=folder, timeout=120
        )

    port = free_port()
    control = str(binaries / "pg_ctl")
    try:
        run(str(binaries / "initdb"), "-D", data, "-A", "trust", "-U", "prefkit", "-E", "UTF8")
        options = f"-p {port} -k {folder} -h 127.0.0.1 -c fsync={'on' if fsync else 'off'}"
        run(control, "-D", data, "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgresql://prefkit@127.0.0.1:{port}/postgres"
        finally:
            run(control, "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
