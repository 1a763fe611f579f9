"""SIGKILL in the middle of voting loses no vote that was acknowledged, and doubles none."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from store_cases import pairs

from prefkit.store import VoteStore

VOTER = """
import sys
sys.path.insert(0, sys.argv[2])
from store_cases import pairs, vote
from prefkit.store import VoteStore

store = VoteStore.open(sys.argv[1])
for comparison in pairs(2000):
    stored = store.vote(vote(comparison, "kim", "tie"))
    print(stored.id, flush=True)
"""


@pytest.mark.parametrize("after", [1, 17, 90])
def test_every_acknowledged_vote_is_there_after_sigkill(tmp_path, after):
    path = tmp_path / "votes.db"
    with VoteStore.open(path) as store:
        store.add(pairs(2000))
    tests = str(Path(__file__).parents[1])
    voter = subprocess.Popen(
        [sys.executable, "-c", VOTER, str(path), tests], stdout=subprocess.PIPE, text=True
    )
    assert voter.stdout is not None
    acknowledged = [voter.stdout.readline().strip() for _ in range(after)]
    voter.send_signal(signal.SIGKILL)
    rest, _ = voter.communicate(timeout=30)
    assert voter.returncode == -signal.SIGKILL
    # A line cut short by the kill was not acknowledged in full.
    acknowledged += [line for line in rest.split("\n")[:-1] if line]
    with VoteStore.open(path) as store:
        kept = [vote.id for vote in store.votes()]
        assert kept[: len(acknowledged)] == acknowledged
        assert len(kept) <= len(acknowledged) + 1
        assert store.verify() == []
