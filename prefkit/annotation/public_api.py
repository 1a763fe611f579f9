"""The API for programs: comparisons in, votes and preferences out, tokens and webhooks.

    GET  /api/v1/openapi.json       all of this, for tools that read OpenAPI
    GET  /api/v1/project            how far the labelling is
    GET  /api/v1/comparisons        page by page
    POST /api/v1/comparisons        {rows, origin?}: pairs as in the files of `prefkit annotate`
    GET  /api/v1/votes              every vote ever written, page by page
    GET  /api/v1/preferences        P(a wins) of each comparison, aggregated now
    GET, POST, DELETE /api/v1/tokens     who holds one, without the secrets; a new one; revoked
    GET, POST, DELETE /api/v1/hooks, GET /api/v1/deliveries      webhooks and what became of them

``Authorization: Bearer TOKEN`` instead of a cookie; which scope a route takes is in routes.py.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, HTTPException, Path, Query
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field, field_validator

from prefkit.aggregation import aggregate, check_method
from prefkit.annotation.assignment import is_sliced
from prefkit.annotation.auth import Who, caller, now
from prefkit.annotation.settings import AnnotateSettings
from prefkit.annotation.upkeep import arrange
from prefkit.core.records import Message, Vote
from prefkit.core.surrogates import encodable
from prefkit.formats.comparisons import comparisons_of
from prefkit.formats.rows import Rows
from prefkit.store import VoteStore
from prefkit.store.outbox import KINDS, Outbox, State
from prefkit.store.pages import comparisons_after, votes_after
from prefkit.store.tokens import SCOPES, Tokens, TokenScope

MOST_ROWS = 1000
_NOT_LEFT_OUT = ("n_read", "n_comparisons")
LONGEST_URL = 2000
LONGEST_LABEL = 200
MOST_DAYS = 3650
_ROW = 2**53  # row numbers a JSON reader can hold
After = Annotated[int, Query(ge=0, le=_ROW, description="`next` of the page before; 0 to start")]
ShortId = Annotated[str, Path(pattern=r"\A[0-9a-f]{12}\z")]
Caller = Annotated[Who, Depends(caller)]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="Rows of a page")]


class Batch(BaseModel):
    """Pairs: each row has a prompt and two answers, under the names `prefkit annotate` reads."""

    model_config = ConfigDict(extra="forbid")
    rows: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MOST_ROWS)]
    origin: Annotated[str, Field(min_length=1, max_length=200)] = "api"


class Added(BaseModel):
    """What became of a batch. n_added: those that were new; the rest of read is in left_out."""

    n_read: int
    n_added: int
    left_out: dict[str, int]


class Page(BaseModel):
    """Rows, and where the next page starts; next is null at the end."""

    rows: list[dict[str, Any]]
    next: int | None


class TokenBody(BaseModel):
    """What a new token is for, what it may do, and for how many days."""

    model_config = ConfigDict(extra="forbid")
    label: Annotated[str, Field(max_length=LONGEST_LABEL)] = ""
    scopes: Annotated[list[TokenScope], Field(min_length=1, max_length=len(SCOPES))]
    days: Annotated[int, Field(strict=True, ge=1, le=MOST_DAYS)] = 90


class HookBody(BaseModel):
    """Where to send which kinds of events."""

    model_config = ConfigDict(extra="forbid")
    url: Annotated[str, Field(max_length=LONGEST_URL)]
    kinds: Annotated[list[str], Field(min_length=1, max_length=len(KINDS))]

    @field_validator("url")
    @classmethod
    def _is_web_address(cls, url: str) -> str:
        parts = urlsplit(url)
        plain = url.isascii() and url.isprintable() and " " not in url
        # urlsplit looks at the port only when it is asked for.
        if (
            not plain
            or parts.scheme not in ("http", "https")
            or not parts.hostname
            or not (parts.port is None or parts.port > 0)
        ):
            raise ValueError("expected an http or https address")
        if parts.username is not None or parts.fragment:
            raise ValueError("expected an address without a user name or a fragment")
        return url

    @field_validator("kinds")
    @classmethod
    def _are_known(cls, kinds: list[str]) -> list[str]:
        if unknown := set(kinds) - set(KINDS):
            raise ValueError(
                f"unknown: {', '.join(sorted(unknown))[:100]}; known: {', '.join(KINDS)}"
            )
        return kinds


def router(store: VoteStore, tokens: Tokens, settings: AnnotateSettings, method: str) -> APIRouter:
    """The routes; who may call them is decided before (annotation/routes.py).

    method: of aggregation, where a request names none.
    """
    api = APIRouter(prefix="/api/v1")
    _add_data(api, store, settings)
    _add_preferences(api, store, method)
    _add_tokens(api, tokens)
    _add_hooks(api, Outbox(store.database))

    @api.get("/openapi.json", include_in_schema=False)
    def openapi() -> dict[str, Any]:
        about = "Pairs in, votes and preferences out. Authorization: Bearer TOKEN."
        return get_openapi(title="prefkit", version="1", description=about, routes=api.routes)

    return api


def _add_data(api: APIRouter, store: VoteStore, settings: AnnotateSettings) -> None:
    @api.get("/project")
    def project() -> dict[str, Any]:
        """How many comparisons, votes and raters there are, and what is still open."""
        counts = store.counts()
        return {**dataclasses.asdict(counts), "choices": dict(counts.choices), "k": settings.k}

    @api.get("/comparisons")
    def comparisons(after: After = 0, limit: Limit = 200) -> Page:
        """Comparisons in the order they were added."""
        found = comparisons_after(store.database, after, limit)
        rows = [
            {
                "id": comparison.id,
                "prompt": _messages(comparison.prompt.messages),
                "a": _messages(comparison.a.messages),
                "b": _messages(comparison.b.messages),
                "model_a": comparison.a.model,
                "model_b": comparison.b.model,
                "origin": comparison.origin,
            }
            for _, comparison in found
        ]
        return Page(rows=encodable(rows), next=found[-1][0] if len(found) == limit else None)

    @api.post("/comparisons")
    def add(batch: Batch) -> Added:
        """Add pairs to be labelled; those that are there already are left alone."""
        read, counts = comparisons_of(Rows("rows", batch.rows), origin=batch.origin)
        n_added = store.add(read, settings.k, settings.overlap.most)
        if n_added and (settings.order != "random" or is_sliced(settings)):
            arrange(store, settings)
        left_out = {name: n for name, n in counts.items() if n and name not in _NOT_LEFT_OUT}
        return Added(n_read=len(batch.rows), n_added=n_added, left_out=left_out)

    @api.get("/votes")
    def votes(after: After = 0, limit: Limit = 200) -> Page:
        """Every vote, replaced and withdrawn ones too (`stands` is false), oldest first.

        Raters are opaque ids.
        """
        found = votes_after(store.database, after, limit)
        rows = [{"seq": seq, **_vote(vote), "stands": stands} for seq, vote, stands in found]
        return Page(rows=encodable(rows), next=found[-1][0] if len(found) == limit else None)


def _add_preferences(api: APIRouter, store: VoteStore, usual: str) -> None:
    aggregating = threading.Lock()

    @api.get("/preferences")
    def preferences(
        method: Annotated[str | None, Query(max_length=64)] = None,
    ) -> dict[str, Any]:
        """What is believed of each comparison with a vote for a, b or a tie.

        method: by default the one in prefkit.yaml.
        """
        method = usual if method is None else method
        check_method(method)
        if not aggregating.acquire(blocking=False):
            busy = {"retry-after": "2"}
            raise HTTPException(429, "another aggregation is running", headers=busy)
        try:
            found = aggregate(store.comparisons(), store.votes(), method=method)
        finally:
            aggregating.release()
        rows = [dataclasses.asdict(preference) for preference in found]
        for row in rows:
            row["votes"] = None if row["votes"] is None else json.loads(row["votes"])
        return {"rows": encodable(rows)}


def _add_tokens(api: APIRouter, tokens: Tokens) -> None:
    @api.get("/tokens")
    def all_tokens() -> dict[str, Any]:
        """Every token, without its secret."""
        return {"rows": [dataclasses.asdict(token) for token in tokens.all()]}

    @api.post("/tokens")
    def make_token(body: TokenBody, who: Caller) -> dict[str, Any]:
        """A new token that acts for whoever asks; its text in the answer is not shown again.

        A token makes none that may do more than itself, and none that holds longer.
        """
        if who.via == "local":
            raise HTTPException(409, "without accounts nothing asks for a token")
        if who.scopes is not None and not who.scopes.issuperset(body.scopes):
            raise HTTPException(403, "a token makes none that may do more than itself")
        moment = now()
        until = moment + timedelta(days=body.days)
        if who.until is not None:
            until = min(until, who.until)
        made, text = tokens.make(who.id, body.label, body.scopes, moment, until)
        return {**dataclasses.asdict(made), "token": text}

    @api.delete("/tokens/{token_id}")
    def revoke(token_id: ShortId) -> dict[str, str]:
        """Let a token hold no more."""
        if not tokens.revoke(token_id):
            raise HTTPException(404, "that is the id of no token")
        return {"revoked": token_id}


def _add_hooks(api: APIRouter, outbox: Outbox) -> None:
    @api.get("/hooks")
    def all_hooks() -> dict[str, Any]:
        """Every webhook, without its secret."""
        return {"rows": [dataclasses.asdict(hook) for hook in outbox.hooks()]}

    @api.post("/hooks")
    def add_hook(body: HookBody) -> dict[str, Any]:
        """A new webhook; the secret in the answer is not shown again."""
        hook, secret = outbox.add_hook(body.url, body.kinds, now())
        return {**dataclasses.asdict(hook), "secret": secret}

    @api.delete("/hooks/{hook_id}")
    def end_hook(hook_id: ShortId) -> dict[str, str]:
        """Send nothing more to a webhook, not even what waits."""
        if not outbox.end_hook(hook_id):
            raise HTTPException(404, "that is the id of no webhook")
        return {"ended": hook_id}

    @api.get("/deliveries")
    def deliveries(state: State = "dead") -> dict[str, Any]:
        """The newest hundred deliveries that wait, were sent, or were given up (`dead`)."""
        return {"rows": outbox.deliveries(state)}


def _messages(messages: Any) -> list[dict[str, Any]]:
    plain: list[dict[str, Any]] = []
    message: Message
    for message in messages:
        texts = [part for part in message.parts if part.kind == "text"]
        if len(texts) == len(message.parts):
            content: Any = message.text
        else:
            content = [dataclasses.asdict(part) for part in message.parts]
        plain.append({"role": message.role, "content": content})
    return plain


def _vote(vote: Vote) -> dict[str, Any]:
    return {field.name: getattr(vote, field.name) for field in dataclasses.fields(vote)}
