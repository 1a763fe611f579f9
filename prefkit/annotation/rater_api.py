"""The HTTP routes of the labelling page: a thin skin over Session.

    GET  /api/v1/next                 what to show: state, pairs, progress
    POST /api/v1/votes                {id, token, key, guidelines, …} → saved, and as /next
    POST /api/v1/undo                 {id} → undone, and as /next
    POST /api/v1/flags                {id, task_id, on, note?}
    POST /api/v1/heartbeat            {tokens, hidden}
    GET  /api/v1/progress
    GET  /api/v1/guidelines           what raters are told, as sanitised HTML; ?version= an old one
    POST /api/v1/guidelines/seen      {id, version}
    GET  /api/v1/history              own votes, newest first; /history/{vote_id}: its pair again

A POST carries a UUID made by the page: sent again after a lost reply it changes nothing. Votes
wait for their commit without holding a thread; all else runs in threads. Bad input is a 4xx with
one line of text, never a 5xx.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from prefkit.annotation.guard import API_PREFIX
from prefkit.annotation.render import render_markdown
from prefkit.annotation.session import Judged, Key, Pair, Session, Side, View, key_of
from prefkit.annotation.settings import AnnotateSettings
from prefkit.core.records import Vote
from prefkit.store import VoteStore
from prefkit.store.leases import Outcome, Spent

_DAY_MS = 24 * 60 * 60 * 1000
MOST_HELD = 300  # tokens that a page may name: what it holds, and what it has not sent yet
Milliseconds = Annotated[int, Field(strict=True, ge=0, le=_DAY_MS)]
TaskId = Annotated[str, Field(pattern=r"\A[A-Za-z0-9_-]{1,64}\z")]
Text = Annotated[str, Field(max_length=4000)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Version = Annotated[str, Field(pattern=r"\A[0-9a-f]{1,64}\z")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class VoteBody(_Body):
    """What POST /votes takes. guidelines: the version that the page showed, those in force without
    one; have: the tokens of pairs that the page holds already."""

    id: UUID
    token: UUID
    key: Key
    active_ms: Milliseconds | None = None
    painted_ms: Milliseconds | None = None
    next_ms: Milliseconds | None = None
    confidence: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] | None = None
    aspects: Annotated[dict[Name, Side], Field(max_length=16)] = {}
    rationale: Text | None = None
    edit: Annotated[str, Field(max_length=32000)] | None = None
    replaces: UUID | None = None
    guidelines: Version | None = None
    have: Annotated[list[UUID], Field(max_length=MOST_HELD)] = []


class UndoBody(_Body):
    """What POST /undo takes."""

    id: UUID


class FlagBody(_Body):
    """What POST /flags takes."""

    id: UUID
    task_id: TaskId
    on: Annotated[bool, Field(strict=True)]
    note: Text | None = None


class BeatBody(_Body):
    """What POST /heartbeat takes. hidden: the page is not in view."""

    tokens: Annotated[list[UUID], Field(max_length=MOST_HELD)]
    hidden: Annotated[bool, Field(strict=True)] = False


class SeenBody(_Body):
    """What POST /guidelines/seen takes."""

    id: UUID
    version: Version


def rater_router(
    session: Session, store: VoteStore, settings: AnnotateSettings, who: Callable[..., Any]
) -> APIRouter:
    """The routes; ``who`` is a dependency that gives the rater's id, or refuses."""
    router = APIRouter(prefix=API_PREFIX.rstrip("/"))
    _add_votes(router, session, who)
    _add_signs(router, session, who)
    _add_reading(router, session, store, settings, who)
    return router


def _add_votes(router: APIRouter, session: Session, who: Callable[..., Any]) -> None:
    of_session: Any = Depends(who)

    @router.get("/next")
    async def next_pairs(rater: str = of_session) -> dict[str, Any]:
        outcome = await asyncio.wrap_future(await to_thread.run_sync(session.next, rater))
        return await _shown(session, rater, outcome)

    @router.post("/votes")
    async def vote(body: VoteBody, rater: str = of_session) -> Any:
        await _known_guidelines(session, body.guidelines)
        try:
            outcome = await asyncio.wrap_future(session.vote(rater, _judged(body)))
        except Spent as error:
            outcome = await asyncio.wrap_future(await to_thread.run_sync(session.next, rater))
            state = await _shown(session, rater, outcome)
            said = {"error": error.message, "hint": error.hint}
            return JSONResponse({**said, **state}, status_code=409)
        saved = _saved(outcome.vote)
        return {"saved": saved, **await _shown(session, rater, outcome, body.have)}

    @router.post("/undo")
    async def undo(body: UndoBody, rater: str = of_session) -> dict[str, Any]:
        outcome = await asyncio.wrap_future(session.undo(rater, str(body.id)))
        undone = outcome.vote is not None
        return {"undone": undone, **await _shown(session, rater, outcome)}


async def _known_guidelines(session: Session, version: str | None) -> None:
    """Refuse a version that was never in force: what a vote records can be looked up."""
    if version is None or version == session.guidelines.version:
        return
    if await to_thread.run_sync(session.guidelines.text_of, version) is None:
        raise HTTPException(422, "guidelines: there never was such a version")


def _judged(body: VoteBody) -> Judged:
    measured = {"painted_ms": body.painted_ms, "next_ms": body.next_ms}
    return Judged(
        id=str(body.id),
        token=str(body.token),
        key=body.key,
        active_ms=body.active_ms,
        confidence=body.confidence,
        aspects=body.aspects,
        rationale=body.rationale or None,
        edit=body.edit or None,
        replaces=str(body.replaces) if body.replaces is not None else None,
        guidelines=body.guidelines,
        facts={name: ms for name, ms in measured.items() if ms is not None},
    )


def _saved(vote: Vote | None) -> dict[str, Any]:
    assert vote is not None, "a vote that was cast is there"
    return {
        "id": vote.id,
        "choice": vote.choice,
        "strength": vote.strength,
        "late": vote.late,
        "key": key_of(vote),
    }


async def _shown(
    session: Session, rater: str, outcome: Outcome, have: list[UUID] | None = None
) -> dict[str, Any]:
    """The state as the page takes it. In a thread: a pair that is new has to be rendered."""
    known = {str(token) for token in have or ()}
    view = await to_thread.run_sync(session.view, rater, outcome, known)
    return _view(view)


def _view(view: View) -> dict[str, Any]:
    return {
        "state": view.state,
        "pairs": [_pair(pair) for pair in view.pairs],
        "progress": dataclasses.asdict(view.progress),
        "retry_s": view.retry_s,
        "guidelines": view.guidelines,
    }


def _pair(pair: Pair) -> dict[str, Any]:
    return {name: getattr(pair, name) for name in Pair.__dataclass_fields__}


def _add_signs(router: APIRouter, session: Session, who: Callable[..., Any]) -> None:
    of_session: Any = Depends(who)

    @router.post("/flags")
    async def flag(body: FlagBody, rater: str = of_session) -> dict[str, bool]:
        note = body.note or None
        flagging = session.flag(rater, str(body.id), body.task_id, on=body.on, note=note)
        await asyncio.wrap_future(flagging)
        return {"on": body.on}

    @router.post("/heartbeat")
    async def heartbeat(body: BeatBody, rater: str = of_session) -> dict[str, int]:
        tokens = [str(token) for token in body.tokens]
        held = await asyncio.wrap_future(session.beat(rater, tokens, hidden=body.hidden))
        return {"held": held}

    @router.post("/guidelines/seen")
    async def seen(body: SeenBody, rater: str = of_session) -> dict[str, bool]:
        reading = session.read_guidelines(rater, str(body.id), body.version)
        return {"new": await asyncio.wrap_future(reading)}


def _add_reading(
    router: APIRouter,
    session: Session,
    store: VoteStore,
    settings: AnnotateSettings,
    who: Callable[..., Any],
) -> None:
    of_session: Any = Depends(who)

    @router.get("/progress")
    def progress(rater: str = of_session) -> dict[str, Any]:
        return dataclasses.asdict(session.progress(rater))

    @router.get("/guidelines")
    def guidelines(
        rater: str = of_session, version: Annotated[str | None, Query(max_length=64)] = None
    ) -> dict[str, str]:
        wanted = session.guidelines.look().version if version is None else version
        text = session.guidelines.text_of(wanted)
        if text is None:
            raise HTTPException(404, "no such version of the guidelines")
        return {"html": render_markdown(text, breaks=False), "version": wanted}

    @router.get("/history")
    def history(
        rater: str = of_session,
        before: Annotated[int | None, Query(ge=0, lt=1 << 63)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> dict[str, Any]:
        found = session.history(rater, before, limit)
        votes = [
            {**_saved(vote), "task_id": vote.task_id, "at": vote.at.isoformat(), "before": seq}
            for seq, vote in found
        ]
        return {"votes": votes}

    @router.get("/history/{vote_id}")
    def again(vote_id: UUID, rater: str = of_session) -> dict[str, Any]:
        vote = session.standing_vote(rater, str(vote_id))
        if vote is None:
            raise HTTPException(404, "you have no such vote")
        return _pair(session.again(rater, vote))
