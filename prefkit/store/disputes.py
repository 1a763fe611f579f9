"""Comparisons on which people disagree, for reviewers: how much, and not who said what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from prefkit.store.database import Database
from prefkit.store.ledger import COUNTED
from prefkit.store.queries import PAGE, bounded
from prefkit.store.rows import comparison_of
from prefkit.store.tables import comparisons, flags, standing, tasks, votes

LONGEST = 120  # characters of a prompt
_PEOPLE = votes.c.rater_kind == "human"
_LABELS = tasks.c.kind == "label"


@dataclass(frozen=True, slots=True)
class Dispute:
    """A comparison on which people disagree, or that one of them flagged; it has all its votes.

    It says nothing of who said what. about: how the last turn of its prompt begins, "" without
    text. disagreement: the share of pairs of votes that differ, in [0, 1]. n_adjudicated: reviewers
    who decided it; mine: whether ``reviewer`` did; voted: whether they voted on it before, so that
    somebody else has to.
    """

    comparison_id: str
    about: str
    n_votes: int
    disagreement: float
    n_flags: int
    n_adjudicated: int
    mine: bool
    voted: bool


def inbox(
    database: Database, reviewer: str, *, decided: bool = False, page: int = 0
) -> tuple[list[Dispute], int]:
    """A page of PAGE disputes, most disputed first, and how many there are.

    decided: those that some reviewer has decided, else those that none has.
    """
    rows = _disputes(reviewer).subquery()
    one = rows.c.n_adjudicated > 0 if decided else rows.c.n_adjudicated == 0
    query = (
        sa.select(rows)
        .where(one)
        .order_by(rows.c.disagreement.desc(), rows.c.n_flags.desc(), rows.c.n.desc(), rows.c.id)
        .limit(PAGE)
        .offset(PAGE * page)
    )
    with bounded(database) as connection:
        total = connection.scalar(sa.select(sa.func.count()).select_from(rows).where(one)) or 0
        page_rows = connection.execute(query).all()
        about = _about(connection, [row.id for row in page_rows])
        found = [
            Dispute(
                row.id,
                about[row.id],
                int(row.n),
                float(row.disagreement),
                int(row.n_flags),
                int(row.n_adjudicated),
                bool(row.mine),
                bool(row.voted),
            )
            for row in page_rows
        ]
    return found, total


def _about(connection: sa.Connection, ids: list[str]) -> dict[str, str]:
    """Comparison id → how the last turn of its prompt begins, on one line."""
    query = sa.select(comparisons).where(comparisons.c.id.in_(ids))
    found: dict[str, str] = {}
    for row in connection.execute(query).mappings():
        asked = comparison_of(row).prompt.messages
        text = " ".join(asked[-1].text.split()) if asked else ""
        found[row["id"]] = text if len(text) <= LONGEST else f"{text[: LONGEST - 1].rstrip()}…"
    return found


def _disputes(reviewer: str) -> Any:
    """Full label tasks with two different votes of people, or a flag."""
    n = sa.func.count()
    of_choice = [sa.func.sum(sa.case((standing.c.choice == c, 1), else_=0)) for c in COUNTED]
    alike: Any = sum(
        (each * (each - 1) for each in of_choice[1:]), of_choice[0] * (of_choice[0] - 1)
    )
    pairs = n * (n - 1)
    differ = sa.case((n < 2, 0.0), else_=1.0 - alike * 1.0 / sa.func.nullif(pairs, 0))
    said = (
        sa.select(standing.c.task_id, n.label("n"), differ.label("disagreement"))
        .join(votes, votes.c.id == standing.c.vote_id)
        .where(standing.c.choice.in_(COUNTED), _PEOPLE)
        .group_by(standing.c.task_id)
        .subquery()
    )
    flagged = (
        sa.select(flags.c.task_id, sa.func.count().label("n")).group_by(flags.c.task_id).subquery()
    )
    decided, mine, voted = _who_decided(reviewer)
    n_flags = sa.func.coalesce(flagged.c.n, 0)
    disagreement = sa.func.coalesce(said.c.disagreement, 0.0)
    return (
        sa.select(
            tasks.c.id,
            sa.func.coalesce(said.c.n, 0).label("n"),
            disagreement.label("disagreement"),
            n_flags.label("n_flags"),
            sa.func.coalesce(decided.c.n, 0).label("n_adjudicated"),
            sa.case((mine, 1), else_=0).label("mine"),
            sa.case((voted, 1), else_=0).label("voted"),
        )
        .select_from(tasks)
        .outerjoin(said, said.c.task_id == tasks.c.id)
        .outerjoin(flagged, flagged.c.task_id == tasks.c.id)
        .outerjoin(decided, decided.c.comparison_id == tasks.c.id)
        .where(_LABELS, ((disagreement > 0) & (tasks.c.n_done >= tasks.c.k)) | (n_flags > 0))
    )


def _who_decided(reviewer: str) -> tuple[Any, Any, Any]:
    """How many reviewers decided each comparison; whether ``reviewer`` did; whether they voted."""
    cases, done = tasks.alias("cases"), standing.alias("done")
    decided = (
        sa.select(cases.c.comparison_id, sa.func.count().label("n"))
        .join(done, done.c.task_id == cases.c.id)
        .where(cases.c.kind == "adjudicate")
        .group_by(cases.c.comparison_id)
        .subquery()
    )

    def stands(*kinds: str) -> Any:
        own, case = standing.alias(), tasks.alias()
        return sa.exists().where(
            own.c.rater == reviewer,
            own.c.task_id == case.c.id,
            case.c.comparison_id == tasks.c.id,
            case.c.kind.in_(kinds),
        )

    return decided, stands("adjudicate"), stands("label", "gold", "repeat")
