"""What somebody with the database's password could do: change rows behind the store's back."""

from __future__ import annotations

from contextlib import contextmanager

import sqlalchemy as sa

GUARDED = ("events", "votes", "heads", "texts")


@contextmanager
def behind(store_place):
    """A connection to the store with its triggers out of the way, for as long as this lasts."""
    address = str(store_place)
    engine = sa.create_engine(address if "://" in address else f"sqlite:///{address}")
    sqlite = engine.dialect.name == "sqlite"
    with engine.begin() as connection:
        made = []
        if sqlite:
            query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
            made = connection.exec_driver_sql(query).all()
            for name, _ in made:
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        else:
            for table in GUARDED:
                connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        yield connection
        for _, sql in made:
            connection.exec_driver_sql(sql)
        if not sqlite:
            for table in GUARDED:
                connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    engine.dispose()


def run(store_place, *statements):
    """Run statements behind the store's back."""
    with behind(store_place) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def rows(store_place, query):
    """What a query gives, as dicts."""
    with behind(store_place) as connection:
        return [dict(row) for row in connection.exec_driver_sql(query).mappings()]
