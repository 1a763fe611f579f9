"""Which route takes which role: the one list that decides, and nothing passes that is not on it.

A route of ours without an entry here stops the app from starting (``check``); a path that is in
neither list is refused before any handler sees it. Of Gradio's own routes only those are let
through that drawing a page needs: its uploads, queues, calls and files are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from prefkit.store.accounts import Role
from prefkit.store.tokens import TokenScope

if TYPE_CHECKING:
    from fastapi import FastAPI


@dataclass(frozen=True, slots=True)
class Need:
    """What a request must bring. role: None for anybody, without a log-in. scope: what a token
    must have; None where no token will do."""

    role: Role | None
    scope: TokenScope | None = None


OPEN = Need(None)
RATER = Need("rater")
REVIEWER = Need("reviewer")
LEAD = Need("lead")
LEAD_READS = Need("lead", "read")
LEAD_WRITES = Need("lead", "write")
LEAD_RULES = Need("lead", "admin")

# (method, path as the route is declared) → need. HEAD counts as GET. Some of the rater page's are
# here before their routes are.
POLICY: dict[tuple[str, str], Need] = {
    ("GET", "/login"): OPEN,
    ("POST", "/login"): OPEN,
    ("GET", "/login/oidc"): OPEN,
    ("GET", "/login/oidc/back"): OPEN,
    ("POST", "/logout"): OPEN,
    # the rater page
    ("GET", "/api/v1/me"): RATER,
    ("PUT", "/api/v1/me"): RATER,
    ("GET", "/api/v1/next"): RATER,
    ("GET", "/api/v1/progress"): RATER,
    ("GET", "/api/v1/guidelines"): RATER,
    ("POST", "/api/v1/guidelines/seen"): RATER,
    ("POST", "/api/v1/votes"): RATER,
    ("POST", "/api/v1/undo"): RATER,
    ("POST", "/api/v1/flags"): RATER,
    ("POST", "/api/v1/heartbeat"): RATER,
    ("GET", "/api/v1/history"): RATER,
    ("GET", "/api/v1/history/{vote_id}"): RATER,
    ("GET", "/api/v1/media/{task_id}/{n}"): RATER,
    # the lead's page; disputes are for reviewers too
    ("GET", "/api/v1/lead/overview"): LEAD,
    ("GET", "/api/v1/lead/agreement"): LEAD,
    ("GET", "/api/v1/lead/bias"): LEAD,
    ("GET", "/api/v1/lead/raters"): LEAD,
    ("GET", "/api/v1/lead/search"): LEAD,
    ("GET", "/api/v1/lead/comparisons/{comparison_id}"): LEAD,
    ("GET", "/api/v1/lead/exports"): LEAD,
    ("GET", "/api/v1/lead/export/{what}"): LEAD,
    ("GET", "/api/v1/lead/guidelines"): LEAD,
    ("POST", "/api/v1/lead/examples"): LEAD,
    ("GET", "/api/v1/disputes"): REVIEWER,
    ("GET", "/api/v1/disputes/{comparison_id}"): REVIEWER,
    ("POST", "/api/v1/disputes/{comparison_id}/open"): REVIEWER,
    ("POST", "/api/v1/disputes/{comparison_id}/decide"): REVIEWER,
    # programs
    ("GET", "/api/v1/openapi.json"): LEAD_READS,
    ("GET", "/api/v1/project"): LEAD_READS,
    ("GET", "/api/v1/comparisons"): LEAD_READS,
    ("POST", "/api/v1/comparisons"): LEAD_WRITES,
    ("GET", "/api/v1/votes"): LEAD_READS,
    ("GET", "/api/v1/preferences"): LEAD_READS,
    ("GET", "/api/v1/tokens"): LEAD_RULES,
    ("POST", "/api/v1/tokens"): LEAD_RULES,
    ("DELETE", "/api/v1/tokens/{token_id}"): LEAD_RULES,
    ("GET", "/api/v1/hooks"): LEAD_RULES,
    ("POST", "/api/v1/hooks"): LEAD_RULES,
    ("DELETE", "/api/v1/hooks/{hook_id}"): LEAD_RULES,
    ("GET", "/api/v1/deliveries"): LEAD_RULES,
}

# What Gradio's page asks for while it is drawn (recorded in Chromium, gradio 6.31): files of the
# package, which are the same for everybody, and the page itself.
GRADIO_FILES = re.compile(r"/(?:assets|static)/[A-Za-z0-9_./@+-]{1,200}|/favicon\.ico|/theme\.css")
GRADIO_PAGES = {"/": RATER, "/lead": REVIEWER}

Refusal = tuple[Literal[401, 403, 404, 405], str]


def need_of(method: str, path: str) -> Need | Refusal:
    """What a request to ``path`` must bring, or why there is nothing for it there."""
    method = "GET" if method == "HEAD" else method
    known = [key for key, pattern in _patterns() if pattern.match(path)]
    for key in known:
        if key[0] == method:
            return POLICY[key]
    if known:
        return 405, f"this address takes {', '.join(sorted({key[0] for key in known}))}"
    if method != "GET":
        return 403, "nothing can be sent to this address"
    if GRADIO_FILES.fullmatch(path):
        return OPEN
    if path in GRADIO_PAGES:
        return GRADIO_PAGES[path]
    return 404, "there is nothing at this address"


def check(app: FastAPI) -> list[tuple[str, str]]:
    """Every (method, path) of our own routes on ``app``; AssertionError for one without an entry.

    That is a fault of ours, not of a user: it must not come out as a page that anybody can read.
    """
    own = [
        (method, path)
        for path, methods in _own_routes(app)
        for method in sorted(methods - {"HEAD", "OPTIONS"})
    ]
    missing = [key for key in own if key not in POLICY]
    assert not missing, f"routes without an entry in POLICY: {missing}"
    return own


def _own_routes(app: FastAPI) -> list[tuple[str, set[str]]]:
    from starlette.routing import Mount, Route

    found: list[tuple[str, set[str]]] = []
    for route in _flat(app.routes):
        if isinstance(route, Mount):
            assert route.path == "", f"{route.path}: only Gradio is mounted, at the root"
        else:
            assert isinstance(route, Route), f"{route}: neither HTTP nor Gradio"
            found.append((route.path, set(route.methods or ())))
    return found


def _flat(routes: Iterable[Any]) -> Iterator[Any]:
    """The routes, with those of included routers: newer FastAPI keeps the router
    where older ones held copies of its routes."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            assert not route.include_context.prefix, "a router has its own prefix"
            yield from _flat(included.routes)


@cache
def _patterns() -> list[tuple[tuple[str, str], re.Pattern[str]]]:
    from starlette.routing import compile_path

    # The same reading of a path as the router's, so that both see the same route.
    return [(key, compile_path(key[1])[0]) for key in POLICY]
