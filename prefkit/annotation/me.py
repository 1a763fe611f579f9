"""Who sits at the page, what is asked of them, and how they want it.

GET /api/v1/me   {id, name, role, locale, theme, keys, aspects, confidence, rationale_at,
                  next_command, logs_out, leads}
PUT /api/v1/me   {locale?, theme?, keys?}   null: as the browser has it; what is absent stays
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from prefkit.annotation.auth import Who
from prefkit.annotation.guard import API_PREFIX
from prefkit.annotation.routes import Need, need_of
from prefkit.annotation.settings import AnnotateSettings
from prefkit.store import VoteStore
from prefkit.store.preferences import Preferences, change_preferences, read_preferences

Locale = Literal["en", "fr", "es", "zh"]
Action = Literal[
    "1", "2", "3", "4", "5", "6", "7", "x", "i", "s",
    "undo", "flag", "ask", "reason", "edit", "diff", "raw", "fold",
    "guidelines", "history", "help",
]  # fmt: skip
KeyName = Annotated[str, Field(min_length=1, max_length=16, pattern=r"\A[^\s\x00-\x1f]+\z")]


LEAD_PAGE = "/lead"


class Wishes(BaseModel):
    """What PUT /me takes."""

    model_config = ConfigDict(extra="forbid")

    locale: Locale | None = None
    theme: Literal["light", "dark"] | None = None
    keys: dict[Action, KeyName] = {}


def me_router(
    store: VoteStore, settings: AnnotateSettings, next_command: str, who: Callable[..., Any]
) -> APIRouter:
    """The routes; ``who`` is a dependency that gives a Who, or refuses."""
    router = APIRouter(prefix=API_PREFIX.rstrip("/"))
    of_session: Any = Depends(who)

    def told(person: Who, chosen: Preferences) -> dict[str, Any]:
        return {
            "id": person.id,
            "name": person.name,
            "role": person.role,
            "locale": chosen.locale,
            "theme": chosen.theme,
            "keys": chosen.keys,
            "aspects": settings.aspects,
            "confidence": settings.confidence,
            "rationale_at": settings.rationale_at,
            # What to run next is for whoever has the terminal.
            "next_command": next_command if person.via == "local" else None,
            "logs_out": person.via == "session",
            "leads": _may_open(person, LEAD_PAGE),
        }

    @router.get("/me")
    def me(person: Who = of_session) -> dict[str, Any]:
        return told(person, read_preferences(store.database, person.id))

    @router.put("/me")
    def change(body: Wishes, person: Who = of_session) -> dict[str, Any]:
        if len(set(body.keys.values())) < len(body.keys):
            raise HTTPException(422, "keys: one key cannot mean two things")
        wished = body.model_dump(include=body.model_fields_set)
        return told(person, change_preferences(store.database, person.id, wished))

    return router


def _may_open(person: Who, page: str) -> bool:
    """Whether there is such a page, and for somebody of this role."""
    need = need_of("GET", page)
    return isinstance(need, Need) and (need.role is None or person.may(need.role))
