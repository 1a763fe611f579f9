"""In which order comparisons are shown: random, by strata, or the uncertain ones first.

Uncertainty first gains little over a random order where it was measured (arXiv:2604.02766), and
what it picks is no fair sample; so a random slice of the tasks is always kept apart (lane SLICE):
every rater draws from it at its own rate, and estimates come from there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from prefkit.annotation.settings import AnnotateSettings
from prefkit.core.rng import derive_seed
from prefkit.store.leasing import IN_ORDER, SLICE
from prefkit.store.ordering import Place, TaskFacts

_SPAN = 1 << 31  # of a shuffle
_STEP = 1 << 20
_SHARES = {"a": 1.0, "b": 0.0, "tie": 0.5}


def places(
    tasks: Sequence[TaskFacts], settings: AnnotateSettings, salt: str, *, sliced: bool
) -> list[Place]:
    """Where each label task stands; all numbers are below those of tasks opened again."""
    work = [task for task in tasks if task.kind == "label"]
    in_slice = {task.id for task in work if sliced and is_in_slice(task, settings, salt)}
    rest = [task for task in work if task.id not in in_slice]
    if settings.order == "stratified":
        numbers = _stratified(rest, settings.strata)
    elif settings.order == "uncertain":
        numbers = {task.id: _by_certainty(task) for task in rest}
    else:
        numbers = {task.id: task.shuffle for task in rest}
    return [
        Place(task.id, SLICE, task.shuffle)
        if task.id in in_slice
        else Place(task.id, IN_ORDER, numbers[task.id])
        for task in work
    ]


def is_in_slice(task: TaskFacts, settings: AnnotateSettings, salt: str) -> bool:
    """Whether a task is in the random slice; the same for ever, whatever is voted."""
    return derive_seed("slice", salt, task.comparison_id) < settings.random_slice * _SPAN


def p_a(choices: Sequence[str]) -> float:
    """P(a is better) as the votes so far say it: Laplace's share, ½ without votes."""
    shares = [_SHARES[choice] for choice in choices if choice in _SHARES]
    return (1 + sum(shares)) / (2 + len(shares))


def _by_certainty(task: TaskFacts) -> int:
    """The least certain first, those that are alike in random order."""
    certainty = 2 * abs(p_a(task.choices) - 0.5)
    return int(certainty * ((1 << 19) - 1)) * _STEP + task.shuffle % _STEP


def _stratified(tasks: Sequence[TaskFacts], strata: str) -> dict[str, int]:
    """Each stratum spread evenly over the whole, in random order within."""
    groups: defaultdict[str, list[TaskFacts]] = defaultdict(list)
    for task in tasks:
        groups[stratum(task, strata)].append(task)
    return {
        task.id: int((rank + task.shuffle / _SPAN) / len(group) * _SPAN)
        for group in groups.values()
        for rank, task in enumerate(sorted(group, key=lambda task: (task.shuffle, task.id)))
    }


def stratum(task: TaskFacts, strata: str) -> str:
    """The stratum of a task: its origin, or the value of a tag ("" where there is none)."""
    name = strata.removeprefix("tag:")
    return task.origin if name == strata else task.tags.get(name, "")
