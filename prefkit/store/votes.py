"""VoteStore: comparisons in, tasks out, votes in, votes out.

A comparison's label task carries the comparison's id. Every public method is one transaction;
what it returns has been written to disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from prefkit.core.errors import StoreError
from prefkit.core.records import CHOICES, Comparison, Task, Vote
from prefkit.core.rng import derive_seed
from prefkit.formats.schema import to_row
from prefkit.store import check, ledger
from prefkit.store.database import Database
from prefkit.store.migrate import MIGRATIONS, bring_up_to_date, copy_sqlite, current_revision
from prefkit.store.tables import comparisons, served, standing, tasks, votes

Slot = Literal["a", "b"]


@dataclass(frozen=True, slots=True)
class Served:
    """A task as one rater sees it: shown_first is the slot on the left."""

    task: Task
    comparison: Comparison
    shown_first: Slot


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """What a store (or one origin in it) holds.

    tasks = open + done; done means k counted votes. votes: every row ever written. standing:
    the last words of raters. choices: standing votes by choice, in the order of CHOICES.
    """

    comparisons: int
    tasks: int
    open: int
    done: int
    votes: int
    standing: int
    raters: int
    choices: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RaterProgress:
    """done: this rater's standing votes, skips among them. left: tasks still open to them."""

    done: int
    skipped: int
    left: int


class VoteStore:
    """The vote store of a workspace; safe for several threads and processes at once."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.migration_backup: Path | None = None

    @classmethod
    def open(cls, path_or_url: str | Path, *, create: bool = True) -> Self:
        """The store at an SQLite path or a ``postgresql+psycopg://`` URL, made if there is none.

        An older schema is migrated; ``migration_backup`` then names the copy made before.
        Raises StoreError: nothing there (``create=False``), written by a newer prefkit, damaged,
        or no store at all.
        """
        database = Database(path_or_url)
        if database.file is not None and not database.file.exists():
            if not create:
                hint = "prefkit loop run makes pairs, prefkit annotate FILE reads them"
                raise StoreError(f"{database.name}: there is no vote store yet", hint=hint)
            database.file.parent.mkdir(parents=True, exist_ok=True)
        store = cls(database)
        try:
            store.migration_backup = bring_up_to_date(database, MIGRATIONS)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Give the connections back."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The file or the address, without a password."""
        return self._db.name

    def revision(self) -> str:
        """The version of the schema."""
        with self._db.reading() as connection:
            return current_revision(connection) or ""

    # Comparisons and tasks

    def add(self, new: Iterable[Comparison], k: int = 1) -> int:
        """Add comparisons, each with a label task that wants ``k`` votes; how many were new.

        Those that are there stay as they are, but for k: the last call's word counts.
        """
        rows = {comparison.id: comparison for comparison in new}
        with self._db.writing() as connection:
            known = _existing(connection, list(rows))
            fresh = [comparison for comparison in rows.values() if comparison.id not in known]
            if fresh:
                connection.execute(
                    self._insert(comparisons).on_conflict_do_nothing(index_elements=["id"]),
                    [_comparison_row(comparison) for comparison in fresh],
                )
                connection.execute(
                    self._insert(tasks).on_conflict_do_nothing(index_elements=["id"]),
                    [_task_row(comparison, k) for comparison in fresh],
                )
            for chunk in ledger.chunks(sorted(known)):
                of_chunk = tasks.c.comparison_id.in_(chunk) & (tasks.c.kind == "label")
                other_k = tasks.c.k != k
                connection.execute(sa.update(tasks).where(of_chunk, other_k).values(k=k))
        return len(fresh)

    def want(self, k: int) -> int:
        """Let every label task want ``k`` votes from now on; how many wanted another number."""
        other_k = sa.update(tasks).where(tasks.c.kind == "label", tasks.c.k != k)
        with self._db.writing() as connection:
            return connection.execute(other_k.values(k=k)).rowcount

    def _insert(self, table: sa.Table) -> Any:
        dialect = sqlite if self._db.is_sqlite else postgresql
        return dialect.insert(table)

    def comparisons(self, origin: str | None = None) -> list[Comparison]:
        """All comparisons, or those of one origin, in the order they were added."""
        query = sa.select(comparisons).order_by(comparisons.c.seq)
        if origin is not None:
            query = query.where(comparisons.c.origin == origin)
        with self._db.reading() as connection:
            return [ledger.comparison_of(row) for row in connection.execute(query).mappings()]

    def origins(self) -> list[str]:
        """The distinct origins, sorted."""
        query = sa.select(comparisons.c.origin).distinct().order_by(comparisons.c.origin)
        with self._db.reading() as connection:
            return list(connection.scalars(query))

    # Serving

    def next_task(self, rater: str) -> Task | None:
        """The next open task that ``rater`` has not voted on, or None when nothing is left.

        The order is random, other for each rater, and the same at each call.
        """
        start = derive_seed("task order", rater)
        with self._db.reading() as connection:
            for side in (tasks.c.shuffle >= start, tasks.c.shuffle < start):
                query = (
                    sa.select(tasks)
                    .where(side, *_open_to(rater))
                    .order_by(tasks.c.shuffle, tasks.c.id)
                    .limit(1)
                )
                row = connection.execute(query).first()
                if row is not None:
                    return Task(row.id, row.comparison_id, row.kind, row.k)
        return None

    def serve(self, task_id: str, rater: str, shown_first: Slot) -> Served:
        """Record which slot ``rater`` sees on the left and return the task as they see it.

        The first record counts: a later call with the other side returns the side recorded.
        Raises StoreError for an unknown task.
        """
        values = {
            "task_id": task_id,
            "rater": rater,
            "shown_first": shown_first,
            "at": datetime.now(UTC),
        }
        found = self.served(task_id, rater)
        if found is not None:
            return found
        with self._db.writing() as connection:
            if connection.scalar(sa.select(tasks.c.id).where(tasks.c.id == task_id)) is None:
                raise StoreError(f"task {task_id} is not in the store")
            connection.execute(self._insert(served).on_conflict_do_nothing(), values)
        found = self.served(task_id, rater)
        assert found is not None, "a row of `served` is never deleted"
        return found

    def served(self, task_id: str, rater: str) -> Served | None:
        """The task as ``rater`` saw it, or None if it was never served to them."""
        query = (
            sa.select(comparisons, tasks.c.kind, tasks.c.k, served.c.shown_first)
            .join(tasks, tasks.c.comparison_id == comparisons.c.id)
            .join(served, served.c.task_id == tasks.c.id)
            .where(served.c.task_id == task_id, served.c.rater == rater)
        )
        with self._db.reading() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        task = Task(task_id, row["id"], row["kind"], row["k"])
        return Served(task, ledger.comparison_of(row), row["shown_first"])

    # Votes

    def add_votes(self, new: Sequence[Vote]) -> int:
        """Append votes, all or none; how many were new. Ids that are there are left alone.

        Raises StoreError for a vote on a task that is not in the store.
        """
        with self._db.writing() as connection:
            return len(ledger.append(connection, new))

    def vote(self, new: Vote) -> Vote:
        """Append one vote and return it as stored (``replaces`` and ``late`` filled in).

        A repeated id returns the vote of the first call.
        """
        with self._db.writing() as connection:
            ledger.append(connection, [new])
            stored = _vote_by_id(connection, new.id)
            assert stored is not None, "written above, or there before"
            return stored

    def undo(self, rater: str, vote_id: str) -> Vote | None:
        """Withdraw ``rater``'s newest standing vote by a vote with id ``vote_id``; None if none.

        Repeated with the same id it changes nothing and returns the same vote.
        """
        newest = (
            sa.select(votes)
            .join(standing, standing.c.vote_id == votes.c.id)
            .where(standing.c.rater == rater)
            .order_by(votes.c.seq.desc())
            .limit(1)
        )
        with self._db.writing() as connection:
            done = _vote_by_id(connection, vote_id)
            if done is not None:
                return done
            row = connection.execute(newest).mappings().first()
            if row is None:
                return None
            last = ledger.vote_of(row)
            withdrawal = Vote(
                id=vote_id,
                task_id=last.task_id,
                comparison_id=last.comparison_id,
                rater=rater,
                rater_kind=last.rater_kind,
                choice="withdrawn",
                at=datetime.now(UTC),
                shown_first=last.shown_first,
                guideline_version=last.guideline_version,
                replaces=last.id,
            )
            return ledger.append(connection, [withdrawal])[0]

    def votes(self, origin: str | None = None) -> list[Vote]:
        """Every vote ever written, replaced and withdrawn ones among them, oldest first."""
        query = sa.select(votes).order_by(votes.c.seq)
        if origin is not None:
            of_origin = sa.select(comparisons.c.id).where(comparisons.c.origin == origin)
            query = query.where(votes.c.comparison_id.in_(of_origin))
        with self._db.reading() as connection:
            return [ledger.vote_of(row) for row in connection.execute(query).mappings()]

    # Counts and care

    def counts(self, origin: str | None = None) -> StoreCounts:
        """What the store holds, or what it holds of one origin."""
        scope = sa.select(comparisons.c.id)
        if origin is not None:
            scope = scope.where(comparisons.c.origin == origin)
        in_scope = tasks.c.comparison_id.in_(scope)
        stands = sa.select(standing).join(tasks).where(in_scope).subquery()
        is_open = sa.case((tasks.c.n_done < tasks.c.k, 1), else_=0)
        with self._db.reading() as connection:
            totals = connection.execute(
                sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(is_open), 0)).where(
                    in_scope
                )
            ).one()
            by_choice: dict[str, int] = {
                row[0]: row[1]
                for row in connection.execute(
                    sa.select(stands.c.choice, sa.func.count()).group_by(stands.c.choice)
                )
            }
            return StoreCounts(
                comparisons=_count(connection, scope.subquery()),
                tasks=totals[0],
                open=int(totals[1]),
                done=totals[0] - int(totals[1]),
                votes=_count(
                    connection,
                    sa.select(votes.c.id).where(votes.c.comparison_id.in_(scope)).subquery(),
                ),
                standing=sum(by_choice.values()),
                raters=_count(connection, sa.select(stands.c.rater).distinct().subquery()),
                choices={name: by_choice[name] for name in CHOICES if name in by_choice},
            )

    def progress(self, rater: str) -> RaterProgress:
        """How far one rater is."""
        mine = sa.select(standing.c.task_id).where(standing.c.rater == rater)
        with self._db.reading() as connection:
            return RaterProgress(
                done=_count(connection, mine.subquery()),
                skipped=_count(connection, mine.where(standing.c.choice == "skip").subquery()),
                left=_count(connection, sa.select(tasks.c.id).where(*_open_to(rater)).subquery()),
            )

    def backup(self, path: str | Path) -> Path:
        """Copy the store as of now to ``path``, while others may write; the path.

        Raises StoreError where the target exists, or for PostgreSQL (pg_dump does that).
        """
        target = Path(path).expanduser()
        if self._db.file is None:
            raise StoreError(
                f"{self.name}: a PostgreSQL store is backed up by its own tools",
                hint="pg_dump --format=custom",
            )
        if target.exists():
            raise StoreError(f"{target}: exists already", hint="choose another name")
        with self._db.faults():
            copy_sqlite(self._db.file, target)
        return target

    def verify(self) -> list[str]:
        """Every fault found: the file's own checks, and all counters counted again."""
        with self._db.reading() as connection:
            return check.faults(connection)


def _open_to(rater: str) -> tuple[sa.ColumnElement[bool], ...]:
    voted = sa.exists().where(standing.c.task_id == tasks.c.id, standing.c.rater == rater)
    return (tasks.c.n_done < tasks.c.k, ~voted)


def _existing(connection: sa.Connection, ids: list[str]) -> set[str]:
    found: set[str] = set()
    for chunk in ledger.chunks(ids):
        query = sa.select(comparisons.c.id).where(comparisons.c.id.in_(chunk))
        found.update(connection.scalars(query))
    return found


def _count(connection: sa.Connection, rows: sa.Subquery) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(rows)) or 0


def _vote_by_id(connection: sa.Connection, vote_id: str) -> Vote | None:
    row = connection.execute(sa.select(votes).where(votes.c.id == vote_id)).mappings().first()
    return ledger.vote_of(row) if row is not None else None


def _comparison_row(comparison: Comparison) -> dict[str, Any]:
    row = to_row(comparison)
    documents = {name: json.dumps(row[name], sort_keys=True) for name in ("prompt", "a", "b")}
    return {"id": comparison.id, "origin": comparison.origin, **documents}


def _task_row(comparison: Comparison, k: int) -> dict[str, Any]:
    return {
        "id": comparison.id,
        "comparison_id": comparison.id,
        "kind": "label",
        "k": k,
        "n_done": 0,
        "shuffle": derive_seed("task", comparison.id),
    }
