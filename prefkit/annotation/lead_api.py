"""The HTTP routes of the lead's page: a thin skin over Lead and Adjudication.

    GET  /api/v1/lead/overview                 progress, forecast, votes by day
    GET  /api/v1/lead/agreement                overall, by slice, by week
    GET  /api/v1/lead/bias
    GET  /api/v1/lead/raters
    GET  /api/v1/lead/search?q=&before=
    GET  /api/v1/lead/comparisons/{id}         the pair and all that happened to it
    GET  /api/v1/lead/exports, /export/{what}  votes, preferences, or a target of prefkit export
    GET  /api/v1/lead/guidelines               what raters are told now
    POST /api/v1/lead/examples                 {comparison_id, note}: told from now on too
    GET  /api/v1/disputes?decided=&page=       for reviewers: what is disputed, not who said what
    POST /api/v1/disputes/{id}/open            the pair, blind
    POST /api/v1/disputes/{id}/decide          {id, token, key, reasons, …} → everybody's votes
    GET  /api/v1/disputes/{id}                 everybody's votes, for who has decided

Plots are SVG made here (prefkit.report.plots), every word in them escaped. Who may call what is
in routes.py.
"""

from __future__ import annotations

import threading
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, HTTPException, Path, Query
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.background import BackgroundTask

from prefkit.annotation import lead_files, lead_plots
from prefkit.annotation.adjudication import REASONS, Adjudication, Ruling
from prefkit.annotation.auth import Who, caller
from prefkit.annotation.guidelines import Guidelines
from prefkit.annotation.lead import Lead, plain
from prefkit.annotation.render import render_markdown
from prefkit.annotation.rendered import draw
from prefkit.annotation.session import Key, key_of
from prefkit.annotation.settings import AnnotateSettings
from prefkit.core.records import Comparison
from prefkit.core.surrogates import encodable
from prefkit.store import VoteStore
from prefkit.store.adjudicating import NotForYou
from prefkit.store.leases import Spent
from prefkit.store.leasing import OTHER, Slot
from prefkit.store.queries import PAGE, Happened, find_comparison
from prefkit.store.searching import LONGEST, search

_DAY_MS = 24 * 60 * 60 * 1000
PairId = Annotated[str, Path(pattern=r"\A[A-Za-z0-9_-]{1,64}\z")]
PageNumber = Annotated[int, Query(ge=0, le=100_000)]
_WHO: Any = Depends(caller)


class RulingBody(BaseModel):
    """What POST …/decide takes. key: as on the rater's page, without skip."""

    model_config = ConfigDict(extra="forbid")
    id: UUID
    token: UUID
    key: Key
    reasons: Annotated[list[str], Field(max_length=len(REASONS))] = []
    rationale: Annotated[str | None, Field(max_length=4000)] = None
    active_ms: Annotated[int | None, Field(strict=True, ge=0, le=_DAY_MS)] = None


class ExampleBody(BaseModel):
    """What POST /lead/examples takes. note: what is said of the pair (Markdown)."""

    model_config = ConfigDict(extra="forbid")
    comparison_id: Annotated[str, Field(pattern=r"\A[A-Za-z0-9_-]{1,64}\z")]
    note: Annotated[str, Field(max_length=2000)] = ""


def lead_router(
    store: VoteStore, settings: AnnotateSettings, guidelines: Guidelines, method: str
) -> APIRouter:
    """The routes. method: of aggregation, for exports."""
    router = APIRouter(prefix="/api/v1")
    adjudication = Adjudication(store)
    _add_numbers(router, Lead(store, settings))
    _add_looking(router, store, adjudication)
    _add_exports(router, store, method)
    _add_examples(router, store, adjudication, guidelines)
    _add_disputes(router, store, adjudication, guidelines)
    return router


def _add_numbers(router: APIRouter, lead: Lead) -> None:
    @router.get("/lead/overview")
    def overview() -> dict[str, Any]:
        found = lead.overview()
        return encodable({**plain(found), "plot": lead_plots.progress(found)})

    @router.get("/lead/agreement")
    def agreement() -> dict[str, Any]:
        found = lead.agreement()
        return encodable({**plain(found), "plots": lead_plots.agreement(found)})

    @router.get("/lead/bias")
    def bias() -> dict[str, Any]:
        found, speed = lead.biases(), lead.speed()
        plots = {"plot": lead_plots.bias(found), "speed_plot": lead_plots.speed(speed)}
        return {"rows": plain(found), "speed": plain(speed), **plots}

    @router.get("/lead/raters")
    def raters() -> dict[str, Any]:
        found = lead.raters()
        return encodable({"rows": plain(found), "plot": lead_plots.raters(found)})


def _add_looking(router: APIRouter, store: VoteStore, adjudication: Adjudication) -> None:
    @router.get("/lead/search")
    def look_for(
        q: Annotated[str, Query(max_length=LONGEST)],
        before: Annotated[int | None, Query(ge=0, lt=1 << 53)] = None,
    ) -> dict[str, Any]:
        found = search(store.database, q, before=before)
        return encodable(plain(found))

    @router.get("/lead/comparisons/{comparison_id}")
    def whole(comparison_id: PairId, who: Who = _WHO) -> dict[str, Any]:
        comparison = _comparison(store, comparison_id)
        names = store.rater_names()
        try:
            happened = adjudication.history(who.id, comparison_id)
        except NotForYou as error:
            raise HTTPException(409, _said(error)) from None
        models = {"model_a": comparison.a.model, "model_b": comparison.b.model}
        said = {"origin": comparison.origin, "tags": dict(comparison.prompt.tags), **models}
        return encodable(
            {
                **said,
                **_shown(comparison, "a"),
                "history": [_event(each, names.get(each.rater, each.rater)) for each in happened],
            }
        )


def _add_exports(router: APIRouter, store: VoteStore, method: str) -> None:
    busy = threading.Lock()

    @router.get("/lead/exports")
    def exports() -> dict[str, Any]:
        return {
            "rows": [{"what": name, "about": about} for name, about in lead_files.kinds().items()]
        }

    @router.get("/lead/export/{what}")
    def export(what: Annotated[str, Path(pattern=r"\A[a-z0-9_-]{1,40}\z")]) -> Response:
        if what not in lead_files.kinds():
            raise HTTPException(404, "there is no such export")
        if not busy.acquire(blocking=False):
            said = {"retry-after": "2"}
            raise HTTPException(429, "another export is being made", headers=said)
        try:
            made = lead_files.write(store, what, method)
        finally:
            busy.release()
        ended = BackgroundTask(made.folder.cleanup)
        return FileResponse(made.path, filename=made.path.name, background=ended)


def _add_examples(
    router: APIRouter, store: VoteStore, adjudication: Adjudication, guidelines: Guidelines
) -> None:
    @router.get("/lead/guidelines")
    def now() -> dict[str, str]:
        found = guidelines.look()
        html = render_markdown(found.text, breaks=False)
        return {"version": found.version, "base": found.base, "html": html}

    @router.post("/lead/examples")
    def add(body: ExampleBody, who: Who = _WHO) -> dict[str, str]:
        comparison = _comparison(store, body.comparison_id)
        decision = adjudication.decision(body.comparison_id)
        if decision is None or decision.vote is None:
            raise HTTPException(409, "a reviewer has to decide this pair first")
        after = guidelines.add_example(comparison, decision.vote, body.note.strip(), who.id)
        html = render_markdown(after.text, breaks=False)
        return {"version": after.version, "base": after.base, "html": html}


def _add_disputes(
    router: APIRouter, store: VoteStore, adjudication: Adjudication, guidelines: Guidelines
) -> None:
    @router.get("/disputes")
    def disputes(who: Who = _WHO, decided: bool = False, page: PageNumber = 0) -> dict[str, Any]:
        rows, total = adjudication.inbox(who.id, decided=decided, page=page)
        reasons = [
            {"name": name, "kind": kind, "says": says} for name, (kind, says) in REASONS.items()
        ]
        facts = {"total": total, "page": page, "of": PAGE, "lead": who.may("lead")}
        return {"rows": encodable(plain(rows)), "reasons": reasons, **facts}

    @router.post("/disputes/{comparison_id}/open")
    def opened(comparison_id: PairId, who: Who = _WHO) -> dict[str, Any]:
        comparison = _comparison(store, comparison_id)
        try:
            case = adjudication.open(who.id, comparison_id, guidelines.look().version)
        except NotForYou as error:
            raise HTTPException(409, _said(error)) from None
        facts = {
            "token": case.token,
            "task_id": case.task_id,
            "decided": case.decided is not None,
        }
        return encodable({**facts, **_shown(comparison, case.shown_first)})

    @router.post("/disputes/{comparison_id}/decide")
    def decide(comparison_id: PairId, body: RulingBody, who: Who = _WHO) -> dict[str, Any]:
        if body.key == "s":
            raise HTTPException(422, "a decision cannot be skipped; leave the pair in the list")
        if unknown := set(body.reasons) - REASONS.keys():
            known = ", ".join(REASONS)
            raise HTTPException(422, f"{len(unknown)} unknown reasons; known: {known}")
        ruling = Ruling(
            str(body.id),
            str(body.token),
            body.key,
            tuple(dict.fromkeys(body.reasons)),
            body.rationale or None,
            body.active_ms,
        )
        try:
            adjudication.decide(who.id, comparison_id, ruling, guidelines.look().version)
        except Spent:
            raise HTTPException(409, "you have decided this pair") from None
        return _revealed(store, adjudication, who, comparison_id)

    @router.get("/disputes/{comparison_id}")
    def revealed(comparison_id: PairId, who: Who = _WHO) -> dict[str, Any]:
        return _revealed(store, adjudication, who, comparison_id)


def _revealed(
    store: VoteStore, adjudication: Adjudication, who: Who, comparison_id: str
) -> dict[str, Any]:
    """Everybody's votes that stand; by name for leads, by number for reviewers."""
    try:
        found = adjudication.revealed(who.id, comparison_id)
    except NotForYou as error:
        raise HTTPException(409, _said(error)) from None
    names: dict[str, str] = store.rater_names() if who.may("lead") else {}
    votes = [each for each in found if each.stands or each.kind == "flag"]
    numbers = {
        rater: f"rater {number}"
        for number, rater in enumerate(sorted({each.rater for each in votes} - {who.id}), 1)
    }
    named = {who.id: "you", **numbers} if not who.may("lead") else {**names, who.id: "you"}
    rows = [_event(each, named.get(each.rater, each.rater)) for each in votes]
    return encodable({"votes": rows})


def _comparison(store: VoteStore, comparison_id: str) -> Comparison:
    found = find_comparison(store.database, comparison_id)
    if found is None:
        raise HTTPException(404, "there is no such comparison")
    return found


def _said(error: NotForYou) -> str:
    return error.message if error.hint is None else f"{error.message}; {error.hint}"


def _shown(comparison: Comparison, left: Slot) -> dict[str, Any]:
    """The pair as HTML that is safe to put into a page, as raters see it."""
    drawn = draw(comparison)
    return {
        "prompt": drawn.prompt,
        "left": drawn.sides[left],
        "right": drawn.sides[OTHER[left]],
        "left_slot": left,
    }


def _event(happened: Happened, name: str) -> dict[str, Any]:
    vote = happened.vote
    said: dict[str, Any] = {
        "at": happened.at.isoformat(),
        "kind": happened.kind,
        "task": happened.task_kind,
        "who": name,
        "note": happened.note,
    }
    if vote is not None:
        said |= {
            "choice": vote.choice,
            "strength": vote.strength,
            "key": key_of(vote),
            "late": vote.late,
            "stands": happened.stands,
            "machine": vote.rater_kind != "human",
            "p_a": vote.p_a,
            "rationale": vote.rationale,
            "reasons": list(happened.reasons),
            "active_ms": vote.active_ms,
            "guideline": vote.guideline_version,
        }
    return said
