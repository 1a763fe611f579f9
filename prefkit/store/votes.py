"""VoteStore: comparisons in, tasks out, votes in, votes out.

A comparison's label task carries the comparison's id. Every public method is one transaction;
what it returns has been written to disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from prefkit.core.errors import StoreError
from prefkit.core.records import Comparison, Vote
from prefkit.store import (
    chain,
    check,
    counting,
    guidance,
    heads,
    intake,
    ledger,
    ordering,
    people,
    replaying,
)
from prefkit.store.check import Examined
from prefkit.store.copying import copy_file
from prefkit.store.counting import Entry, RaterProgress, StoreCounts
from prefkit.store.database import Database, chunks
from prefkit.store.leases import Clock, Leases, database_clock
from prefkit.store.leasing import Slot
from prefkit.store.ledger import Wanted
from prefkit.store.migrate import (
    MIGRATIONS,
    bring_up_to_date,
    copy_into,
    copy_out,
    current_revision,
)
from prefkit.store.ordering import Place, TaskFacts
from prefkit.store.people import Erased
from prefkit.store.quick import Quick
from prefkit.store.rows import comparison_of, newest, vote_by_id, vote_of, votes_with_words
from prefkit.store.signer import Signer
from prefkit.store.tables import comparisons, meta, votes

_COMPARISON = Quick(sa.select(comparisons).where(comparisons.c.id == sa.bindparam("id")))
_SALT = sa.select(meta.c.value).where(meta.c.key == "salt")


class VoteStore:
    """The vote store of a workspace; safe for several threads and processes at once."""

    def __init__(self, database: Database, home: Path | None = None) -> None:
        self._db = database
        self._home = home
        self._signer = Signer(database, home)
        self.migration_backup: Path | None = None

    @classmethod
    def open(
        cls, path_or_url: str | Path, *, create: bool = True, home: Path | None = None
    ) -> Self:
        """The store at an SQLite path or a ``postgresql+psycopg://`` URL, made if there is none.

        An older schema is migrated; ``migration_backup`` then names the copy made before.
        home: for a PostgreSQL store, the folder of its signing key and of that copy; an SQLite
        store keeps both beside its file. Raises StoreError: nothing there (``create=False``),
        written by a newer prefkit, damaged, or no store at all.
        """
        database = Database(path_or_url)
        if database.file is not None and not database.file.exists():
            if not create:
                raise _missing(database)
            database.file.parent.mkdir(parents=True, exist_ok=True)
        if database.file is not None:
            home = database.file.parent
        store = cls(database, home)
        try:
            database.check_durable()
            if not create:
                with database.reading() as connection:
                    if current_revision(connection) is None:
                        raise _missing(database)
            store.migration_backup = bring_up_to_date(database, home, MIGRATIONS)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Sign what was written and not yet signed, and give the connections back."""
        self._signer.close()
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The file or the address, without a password."""
        return self._db.name

    @property
    def database(self) -> Database:
        """Where the tables are, for accounts and whatever else is kept beside the votes."""
        return self._db

    def revision(self) -> str:
        """The version of the schema."""
        with self._db.reading() as connection:
            return current_revision(connection) or ""

    # Comparisons and tasks

    def add(self, new: Iterable[Comparison], k: int = 1, most: int | None = None) -> int:
        """Add comparisons, each with a label task that wants ``k`` votes; how many were new.

        Those that are there stay as they are, but for k: the last call's word counts. most: with
        adaptive overlap, up to where a task's k was raised by its votes and is left alone.
        """
        rows = {comparison.id: comparison for comparison in new}
        return self._db.write(lambda connection: intake.add(connection, rows, k, most))

    def want(self, k: int, most: int | None = None) -> int:
        """Let every label task want ``k`` votes from now on; how many wanted another number.

        most: as in ``add``.
        """
        return self._db.write(lambda connection: intake.want(connection, k, most))

    def add_gold(self, items: Iterable[tuple[Comparison, Slot]]) -> int:
        """Add pairs whose better slot is known, to be shown among the others; how many were new."""
        given = list(items)
        return self._db.write(lambda connection: ordering.add_gold(connection, given))

    def tasks(self, *, with_tags: bool = False) -> list[TaskFacts]:
        """Every task, gold items and hidden repeats among them, by id."""
        with self._db.snapshot() as connection:
            return ordering.facts(connection, with_tags=with_tags)

    def arrange(self, places: Sequence[Place], facts: Mapping[str, Any]) -> None:
        """Put tasks in another order, a few at a time; ``facts`` say in the chain which it is."""
        for batch in chunks(places):
            self._db.write(partial(ordering.move, places=batch))
        self._db.write(lambda connection: ordering.finish_order(connection, facts))

    def salt(self) -> str:
        """What this store's random choices start from: 32 hexadecimal digits."""
        with self._db.reading() as connection:
            return connection.execute(_SALT).scalar_one()

    def comparisons(self, origin: str | None = None) -> list[Comparison]:
        """All comparisons, or those of one origin, in the order they were added; no gold items."""
        query = sa.select(comparisons).where(counting.IS_WORK).order_by(comparisons.c.seq)
        if origin is not None:
            query = query.where(comparisons.c.origin == origin)
        with self._db.reading() as connection:
            return [comparison_of(row) for row in connection.execute(query).mappings()]

    def comparison(self, comparison_id: str) -> Comparison:
        """One comparison; StoreError where there is none of this id."""
        row = self._db.look(_COMPARISON, id=comparison_id).first()
        if row is None:
            raise StoreError(f"comparison {comparison_id} is not in the store")
        return comparison_of(row._asdict())

    def origins(self) -> list[str]:
        """The distinct origins, sorted."""
        query = sa.select(comparisons.c.origin).where(counting.IS_WORK).distinct()
        with self._db.reading() as connection:
            return list(connection.scalars(query.order_by(comparisons.c.origin)))

    # Serving

    def leases(self, wanted: Wanted | None = None, clock: Clock = database_clock) -> Leases:
        """Who holds which task. wanted: how many votes a task wants, where its votes say so."""
        return Leases(self._db, wanted=wanted, clock=clock, written=self._signer.wrote_elsewhere)

    # Votes

    def add_votes(self, new: Sequence[Vote]) -> int:
        """Append votes, all or none; how many were new. Ids that are there are left alone.

        Raises StoreError for a vote on a task that is not in the store.
        """
        written = self._db.write(lambda connection: ledger.append(connection, new))
        self._signer.wrote(len(written))
        return len(written)

    def vote(self, new: Vote) -> Vote:
        """Append one vote and return it as stored (``replaces`` and ``late`` filled in).

        A repeated id returns the vote of the first call. Raises StoreError where the id is that
        of something else.
        """

        def work(connection: sa.Connection) -> Vote:
            written = ledger.append(connection, [new])
            stored = written[0] if written else vote_by_id(connection, new.id)
            if stored is None:
                raise StoreError(f"vote id {new.id} is that of another event")
            return stored

        stored = self._db.write(work)
        self._signer.wrote(1)
        return stored

    def undo(self, rater: str, vote_id: str) -> Vote | None:
        """Withdraw ``rater``'s newest standing vote by a vote with id ``vote_id``; None if none.

        Repeated with the same id it changes nothing and returns the same vote.
        """

        def work(connection: sa.Connection) -> Vote | None:
            chain.lock_raters(connection, [rater])
            done = vote_by_id(connection, vote_id)
            if done is not None:
                return done
            last = newest(connection, rater)
            if last is None:
                return None
            version = guidance.in_force(connection)
            withdrawal = ledger.withdrawal(last, vote_id, datetime.now(UTC), version)
            return ledger.append(connection, [withdrawal])[0]

        withdrawn = self._db.write(work)
        self._signer.wrote(1)
        return withdrawn

    def votes(self, origin: str | None = None, *, hidden: bool = False) -> list[Vote]:
        """Every vote ever written, replaced and withdrawn ones among them, oldest first.

        hidden: also those on gold items and on repeats, which say how a rater does and are no
        votes on the work.
        """
        query = votes_with_words().order_by(votes.c.seq)
        if not hidden:
            query = query.where(votes.c.task_id.not_in(counting.HIDDEN_TASKS))
        if origin is not None:
            of_origin = sa.select(comparisons.c.id).where(comparisons.c.origin == origin)
            query = query.where(votes.c.comparison_id.in_(of_origin))
        with self._db.reading() as connection:
            return [vote_of(row) for row in connection.execute(query).mappings()]

    def history(self, rater: str, before: int | None = None, limit: int = 50) -> list[Entry]:
        """A rater's votes that stand, newest first; before: only those written before that one."""
        with self._db.reading() as connection:
            return counting.history(connection, rater, before, limit)

    def standing_vote(self, rater: str, vote_id: str) -> Vote | None:
        """The vote of this id with its words, if it is the rater's and stands."""
        with self._db.reading() as connection:
            return counting.standing_vote(connection, rater, vote_id)

    # Guidelines

    def set_guidelines(self, version: str, text: str) -> bool:
        """Let ``text`` be what raters are told from now on; whether it was another before."""
        now = datetime.now(UTC)
        changed = self._db.write(lambda c: guidance.set_guidelines(c, version, text, now))
        self._signer.wrote(int(changed))
        return changed

    def guidelines(self, version: str) -> str | None:
        """The text of a version that was ever in force, or None."""
        with self._db.reading() as connection:
            return guidance.text_of(connection, version)

    # People

    def rater_id(self, name: str) -> str:
        """The id that the votes of the person ``name`` carry; a new name gets a new one."""
        return self._db.write(lambda connection: people.find_or_add(connection, name))

    def rater_names(self) -> dict[str, str]:
        """Rater id → name, of every person in the store who was not erased."""
        with self._db.reading() as connection:
            return people.names(connection)

    def erase(self, name_or_id: str, *, words: bool = False) -> Erased:
        """Remove a person's name and log-in, and with ``words`` all they wrote; the votes stay.

        Copies made earlier still hold what was removed. Raises StoreError for an unknown person.
        """
        now = datetime.now(UTC)
        erased = self._db.write(lambda c: people.erase(c, name_or_id, words=words, now=now))
        self._signer.wrote(1)
        self.sign()
        return replace(erased, wiped=self._db.wipe())

    # Counts and care

    def counts(self, origin: str | None = None) -> StoreCounts:
        """What the store holds, or what it holds of one origin."""
        with self._db.reading() as connection:
            return counting.counts(connection, origin)

    def n_open(self) -> int:
        """Ordinary tasks that have a place free, for whomever."""
        return counting.n_open(self._db)

    def progress(self, rater: str, n_open: int | None = None) -> RaterProgress:
        """How far one rater is. n_open: as ``n_open`` said a moment ago, not to count it again."""
        n_free = counting.n_open(self._db) if n_open is None else n_open
        return counting.progress(self._db, rater, n_free)

    def backup(self, path: str | Path) -> Path:
        """Copy the store as of now to an SQLite file, while others may write; the path.

        A PostgreSQL store is copied too, row by row. Raises StoreError where the target exists.
        """
        target = Path(path).expanduser()
        if target.exists():
            raise StoreError(f"{target}: exists already", hint="choose another name")
        self.sign()
        if self._db.file is None:
            copy_out(self._db, target, MIGRATIONS)
        else:
            with self._db.faults():
                copy_file(self._db.file, target)
        return target

    def copy_to(self, path_or_url: str | Path) -> str:
        """Copy the store as of now into a new file or an empty PostgreSQL database; its name.

        A copy that is not sound is not kept. Raises StoreError where something is there.
        """
        target = Database(path_or_url)
        try:
            if target.file is not None:
                return str(self.backup(target.file))
            target.check_durable()
            self.sign()
            key = heads.find_key(self._home)
            copy_into(self._db, target, lambda copy: check.examine(copy, key).faults)
            return target.name
        finally:
            target.close()

    def verify(self) -> list[str]:
        """Every fault found, one line each; none for a sound store."""
        return self.examine().faults

    def examine(self) -> Examined:
        """Check file, chains, signed heads, words and views; the faults, and what was checked."""
        key = heads.find_key(self._home)
        with self._db.snapshot() as connection:
            return check.examine(connection, key)

    def replay(self, *, write: bool = False) -> list[str]:
        """Make the views again from the events; one line for each row that was another.

        write: put them in the place of those that are there. Raises StoreError where an event
        cannot be read.
        """

        def work(connection: sa.Connection) -> list[str]:
            replaying.lock(connection)
            views = replaying.views_of(connection)
            found = replaying.differences(connection, views)
            if found:
                replaying.write(connection, views)
            return found

        if write:
            return self._db.write(work)
        with self._db.snapshot() as connection:
            return replaying.differences(connection, replaying.views_of(connection))

    def sign(self) -> None:
        """Sign the ends of the chains that have grown, whoever wrote them (store/signer.py)."""
        self._signer.sign()


def _missing(database: Database) -> StoreError:
    hint = "prefkit loop run makes pairs, prefkit annotate FILE reads them"
    return StoreError(f"{database.name}: there is no vote store yet", hint=hint)
