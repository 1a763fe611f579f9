"""Statements on the driver's own cursor say and take the same as SQLAlchemy's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from prefkit.core.errors import StoreError
from prefkit.store.quick import Quick
from prefkit.store.tables import meta, raters, users

AT = datetime(2026, 11, 22, 10, 30, 0, 123456, tzinfo=UTC)
PLAIN = {"role": "rater", "password": None, "issuer": None, "subject": None, "epoch": 0}
NEW = Quick(sa.insert(users))
OF_ID = sa.select(users).where(users.c.id == sa.bindparam("id"))


def person(name, **facts):
    empty = dict.fromkeys(users.c.keys())
    return {**empty, **PLAIN, "id": name, "name": name, "disabled": False, "at": AT, **facts}


def test_values_and_cells_are_converted_as_by_sqlalchemy(store):
    elsewhere = AT.astimezone(timezone(timedelta(hours=5)))
    store.database.write(lambda c: NEW(c, **person("kim", disabled=True, at=elsewhere)))
    with store.database.reading() as connection:
        slow = connection.execute(OF_ID, {"id": "kim"}).one()
        quick = Quick(OF_ID)(connection, id="kim").one()
    assert tuple(quick) == tuple(slow)
    assert (quick.at, quick.disabled, quick.password) == (AT, True, None)
    assert quick._fields == tuple(users.c.keys())


def test_a_value_in_the_statement_and_one_that_is_given(store):
    salt = Quick(sa.select(meta.c.value).where(meta.c.key == "salt", meta.c.value != "x"))
    assert store.database.look(salt).scalar() == store.salt()
    set_role = Quick(sa.update(users).where(users.c.id == sa.bindparam("of")), values=["role"])
    store.database.write(lambda c: NEW.many(c, [person("kim"), person("lee")]))
    found = store.database.write(lambda c: set_role(c, of="kim", role="lead"))
    assert (found.rowcount, found.all()) == (1, [])
    roles = Quick("SELECT role FROM users WHERE id IN (:one, :other) ORDER BY id")
    assert store.database.look(roles, one="kim", other="lee").scalars() == ["lead", "rater"]


def test_rows_are_read_whole_and_one_is_one(store):
    store.database.write(lambda c: NEW.many(c, [person("kim"), person("lee")]))
    names = Quick("SELECT id, count(*) FROM users WHERE id <> :but GROUP BY id ORDER BY id")
    found = store.database.look(names, but="")
    assert [row[0] for row in found] == ["kim", "lee"]
    assert (found.first().id, found.scalar()) == ("kim", "kim")
    with pytest.raises(LookupError, match="2 rows"):
        found.one()
    nobody = store.database.look(Quick("SELECT id FROM users WHERE id = :id"), id="max")
    assert (nobody.first(), nobody.scalar(), nobody.all()) == (None, None, [])


def test_a_fault_of_the_driver_comes_as_sqlalchemys_and_leaves_the_transaction_to_its_end(store):
    store.database.write(lambda c: NEW(c, **person("kim")))

    def work(connection):
        with pytest.raises(IntegrityError), connection.begin_nested():
            NEW(connection, **person("kim"))
        NEW(connection, **person("lee"))

    store.database.write(work)
    assert store.database.look(Quick("SELECT count(*) FROM users")).scalar() == 2
    with pytest.raises(DBAPIError, match="no_such_table"):
        store.database.look(Quick("SELECT 1 FROM no_such_table"))
    assert store.database.look(Quick(sa.select(sa.func.count()).select_from(raters))).scalar() == 0


def test_a_damaged_file_is_named(tmp_path):
    from prefkit.store.database import Database

    path = tmp_path / "votes.db"
    path.write_bytes(b"no database " * 1000)
    database = Database(path)
    with pytest.raises(StoreError, match="not a prefkit store"):
        database.look(Quick("SELECT 1"))
    database.close()
