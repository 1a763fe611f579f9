"""The vote store: the only truth for votes, on SQLite or PostgreSQL, in one versioned schema."""

from prefkit.store.counting import StoreCounts
from prefkit.store.votes import VoteStore

__all__ = ["StoreCounts", "VoteStore"]
