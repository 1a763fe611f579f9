"""The store against what the clients were told: votes lost, doubled, tasks served too often."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.annotate.clients import Told
from benchmarks.annotate.team import K
from prefkit.annotation.session import meaning
from prefkit.core.records import Vote
from prefkit.store import VoteStore

_COUNTED = ("a", "b", "tie", "both_bad", "invalid")


@dataclass
class Check:
    """What was found. faults: what the store's own check says, one line each."""

    n_votes: int
    lost: int
    duplicate: int
    over_served: int
    faults: list[str] = field(default_factory=list[str])


def check(store: VoteStore, told: Mapping[str, Told], seen: Mapping[str, Sequence[str]]) -> Check:
    """told: every vote that a client sent. seen: rater → ids that a browser was told are saved.

    lost: votes that were acknowledged and are not there as they were cast. duplicate: votes there
    that nobody sent, and second votes of a rater on a task. over_served: tasks with more votes in
    time than K, by the store and by what the clients were told.
    """
    votes = store.votes(hidden=True)
    by_id = {vote.id: vote for vote in votes}
    of_browsers = {vote_id: rater for rater, ids in seen.items() for vote_id in ids}
    lost = sum(
        not _is_there(by_id.get(vote_id), one)
        for vote_id, one in told.items()
        if one.saved is not None
    )
    lost += sum(
        vote_id not in by_id or by_id[vote_id].rater != rater
        for vote_id, rater in of_browsers.items()
    )
    known = told.keys() | of_browsers.keys()
    unknown = sum(vote.id not in known for vote in votes)
    twice = Counter((vote.task_id, vote.rater) for vote in votes)
    again = sum(n - 1 for n in twice.values())
    store.leases().reap()
    return Check(
        n_votes=len(votes),
        lost=lost,
        duplicate=len(votes) - len(by_id) + unknown + again,
        over_served=len(_over(votes) | _over_told(told)),
        faults=store.verify(),
    )


def _is_there(vote: Vote | None, told: Told) -> bool:
    if vote is None or told.saved is None:
        return False
    said = meaning(told.key, vote.shown_first or "a")  # type: ignore[arg-type]
    return (
        (vote.rater, vote.task_id) == (told.rater, told.task_id)
        and (vote.choice, vote.strength) == said
        and vote.late == told.saved["late"]
    )


def _over(votes: Sequence[Vote]) -> set[str]:
    in_time = Counter(
        vote.task_id
        for vote in votes
        if vote.choice in _COUNTED and not vote.late and vote.task_id == vote.comparison_id
    )
    return {task_id for task_id, n in in_time.items() if n > K}


def _over_told(told: Mapping[str, Told]) -> set[str]:
    raters: defaultdict[str, set[str]] = defaultdict(set)
    for one in told.values():
        if one.saved is not None and one.saved["choice"] in _COUNTED and not one.saved["late"]:
            raters[one.task_id].add(one.rater)
    return {task_id for task_id, found in raters.items() if len(found) > K}
