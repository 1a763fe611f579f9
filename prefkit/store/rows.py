"""Rows of votes, their words and comparisons as records, and back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from prefkit.core.errors import StoreError
from prefkit.core.records import Comparison, Vote
from prefkit.formats.schema import from_row
from prefkit.store import chain
from prefkit.store.tables import standing, storable, tasks, texts, votes

WORDS = ("rationale", "edit")  # the fields of a vote that are kept in ``texts``
_BY: sa.BindParameter[Any] = sa.bindparam("by")
_PLAIN = [name for name in votes.c.keys() if name not in ("seq", "aspects")]  # noqa: SIM118


def vote_row(vote: Vote, seq: int) -> dict[str, Any]:
    """The row of ``votes`` for a vote and the number of its event."""
    row = {name: getattr(vote, name) for name in _PLAIN}
    return {**row, "seq": seq, "aspects": chain.compact(dict(vote.aspects))}


def vote_of(row: Mapping[Any, Any]) -> Vote:
    """The record of a row of ``votes``, with its words where the row has them."""
    values = {name: value for name, value in row.items() if name != "seq"}
    values["aspects"] = json.loads(values["aspects"])
    return Vote(**values)


def comparison_of(row: Mapping[Any, Any]) -> Comparison:
    """The record of a row of ``comparisons``; StoreError where its texts are damaged."""
    try:
        documents = {name: json.loads(row[name]) for name in ("prompt", "a", "b")}
        return from_row({"id": row["id"], "origin": row["origin"], **documents}, Comparison)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"comparison {row['id']}: its texts are damaged: {error}",
            hint="put a backup in its place (prefkit store backup makes them)",
        ) from None


def votes_with_words() -> Any:
    """All columns of ``votes`` and the words of each vote, None where there are none."""
    columns: list[Any] = list(votes.c)
    joined: Any = votes
    for name in WORDS:
        of_field = texts.alias(name)
        on_vote = (of_field.c.vote_id == votes.c.id) & (of_field.c.field == name)
        joined = joined.outerjoin(of_field, on_vote)
        columns.append(of_field.c.text.label(name))
    return sa.select(*columns).select_from(joined)


def vote_by_id(connection: sa.Connection, vote_id: str) -> Vote | None:
    """The vote of this id with its words, or None."""
    query = votes_with_words().where(votes.c.id == vote_id)
    row = connection.execute(query).mappings().first()
    return vote_of(row) if row is not None else None


def newest(connection: sa.Connection, rater: str) -> Vote | None:
    """The newest vote of ``rater`` that stands, without its words; None if none does.

    Decisions of theirs as a reviewer are not looked at.
    """
    row = connection.execute(_NEWEST, {"by": rater}).mappings().first()
    return vote_of(row) if row is not None else None


# The votes of the rater ``by`` that stand, without their words, newest first: along the rater's own
# votes, so that a limit ends the search early. What they decided as a reviewer is not among them:
# a decision is final, and no pair of the rater's page.
THAT_STAND = (
    sa.select(votes)
    .where(
        votes.c.rater == _BY,
        sa.exists().where(
            standing.c.task_id == votes.c.task_id,
            standing.c.rater == votes.c.rater,
            standing.c.vote_id == votes.c.id,
        ),
        ~sa.exists().where(tasks.c.id == votes.c.task_id, tasks.c.kind == "adjudicate"),
    )
    .order_by(votes.c.seq.desc())
)
_NEWEST = THAT_STAND.limit(1)


def text_row(event_id: str, name: str, rater: str, text: str) -> dict[str, Any]:
    """The row of ``texts`` for what ``rater`` wrote in the field ``name`` of an event."""
    salt = os.urandom(16).hex()
    return {
        "vote_id": event_id,
        "field": name,
        "rater": rater,
        "salt": salt,
        "text": storable(text),
    }


def text_digest(salt: str, text: str) -> str:
    """What an event says of a text: BLAKE2b-256 of the salt's bytes and the UTF-8 text."""
    return chain.digest(bytes.fromhex(salt) + text.encode("utf-8"))
