"""Where the app runs: what has to hold of a Hugging Face Space before a vote is taken there.

A Space's disk is thrown away at every restart, unless storage is attached to it at /data. Votes
that vanish overnight look like votes until then, so the app refuses to start without a place
that stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from prefkit.core.errors import EnvironmentFault

SPACE_VARIABLE = "SPACE_ID"  # set by the Hub in every Space: OWNER/NAME
SPACE_DISK = Path("/data")


def check_space(
    workspace: Path,
    store: str | None,
    *,
    environment: Mapping[str, str] = os.environ,
    is_mount: Callable[[Path], bool] = os.path.ismount,
) -> None:
    """Refuse to run in a Space whose votes would not outlive a restart.

    store: the address or path in ``annotate.store``, None for votes.db in ``workspace``. Raises
    EnvironmentFault where neither PostgreSQL holds the votes nor storage of its own at /data; does
    nothing outside a Space.
    """
    space = environment.get(SPACE_VARIABLE)
    if not space or (store is not None and "://" in store):
        return
    place = workspace if store is None else Path(store).expanduser().parent
    kept = place.resolve().is_relative_to(SPACE_DISK.resolve())
    if kept and is_mount(SPACE_DISK):
        return
    where = f"{place} is on the Space's own disk"
    if kept:
        where = f"no storage is attached at {SPACE_DISK}"
    raise EnvironmentFault(
        f"Space {space}: {where}; every restart would lose all votes, accounts and keys",
        hint=f"attach storage to the Space and keep the workspace under {SPACE_DISK}, or set "
        "annotate.store to a PostgreSQL address: docs/deploy.md",
    )
