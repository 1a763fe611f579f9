"""The routes of the labelling page in a process of its own; the rater's id comes in a header.

    python rater_server.py STORE HOME PORT

The header stands for the session cookie, which is not what is tried here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Header

from prefkit.annotation.app import add_fault_handlers
from prefkit.annotation.rater_api import rater_router
from prefkit.annotation.session import Session
from prefkit.annotation.settings import AnnotateSettings
from prefkit.annotation.upkeep import Upkeep
from prefkit.settings import parse_settings
from prefkit.store import VoteStore

SETTINGS = parse_settings(AnnotateSettings, {"k": 3, "lease_minutes": 1})


def who(x_rater: Annotated[str, Header()]) -> str:
    """The rater of a request."""
    return x_rater


def main() -> None:
    """Serve until killed."""
    place, home, port = sys.argv[1:]
    with VoteStore.open(place, home=Path(home)) as store:
        session = Session(store, SETTINGS)
        app = FastAPI()
        add_fault_handlers(app)
        app.include_router(rater_router(session, store, SETTINGS, who))
        with Upkeep([(1.0, session.leases.reap), (1.0, store.sign)]):
            uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
