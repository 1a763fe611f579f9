"""Stores on both databases."""

from __future__ import annotations

import os

import pytest

from prefkit.store import VoteStore


@pytest.fixture(scope="session")
def server():
    """The address of a PostgreSQL server's own database."""
    from postgres_server import postgres_server

    with postgres_server() as address:
        yield address


@pytest.fixture
def address(server):
    """A fresh PostgreSQL database's address."""
    import psycopg

    name = f"prefkit_{os.urandom(4).hex()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.replace("/postgres", f"/{name}").replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def place(request, tmp_path):
    """A path or an address that has no store yet."""
    if request.param == "sqlite":
        return tmp_path / "votes.db"
    return request.getfixturevalue("address")


@pytest.fixture
def store(place, tmp_path):
    """An empty store on each database."""
    with VoteStore.open(place, home=tmp_path) as opened:
        yield opened
