"""Packs side by side on a CPU, each in a thread of its own with its share of the cores.

Kernels over a few hundred tokens are too short for several cores to share them: a step of 8 pairs
of SmolLM2 in fp32 took two cores 6.3 s pack after pack, and 4.7 s with a pack each (2026-11-21,
docs/log.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from prefkit.policy.layout import stretches_beyond
from prefkit.policy.virtual import has_virtual_tokens
from prefkit.training.ranks import Ranks
from prefkit.training.scorer import dropouts

if TYPE_CHECKING:
    from prefkit.training.plan import Plan

# More would cost more memory: each lane holds the activations of a pack.
LANES = 2
# Tokens of a row up to which a core of its own is worth the memory of a second pack.
LONGEST = 1024

T = TypeVar("T")
R = TypeVar("R")


class Lanes:
    """Calls a function on several items, ``n`` (1 or 2) at a time.

    An item is computed by as many threads whichever lane it meets, so results do not depend on
    which is free.
    """

    def __init__(self, n: int = 1) -> None:
        self.n = n

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R]]:
        """Each item with ``work`` of it, as they are done. With one lane, or one item, each is
        called for when its turn comes, with all threads. With two lanes the caller's thread begins
        at the first item and another at the last. A fault in either ends both.

        Whether gradients are recorded is a thread's own: ``work`` has to say it.
        """
        if min(self.n, len(items)) <= 1:
            yield from ((item, work(item)) for item in items)
            return
        waiting, done = deque(items), deque[tuple[T, Future[R]]]()
        threads = torch.get_num_threads()
        share = max(1, threads // self.n)

        def from_the_end() -> None:
            torch.set_num_threads(share)
            while (item := _taken(waiting.pop)) is not None:
                done.append((item[0], _outcome(work, item[0])))

        other = Thread(target=from_the_end, name="lane")
        other.start()
        torch.set_num_threads(share)
        try:
            while (item := _taken(waiting.popleft)) is not None:
                yield item[0], work(item[0])
                yield from _told(done)
            other.join()
            yield from _told(done)
        finally:
            waiting.clear()
            other.join()
            torch.set_num_threads(threads)

    def split(self, sizes: Sequence[int]) -> list[list[int]]:
        """Indices of ``sizes`` for each lane that gets any, about as much for one as for the other.

        The first lane has its largest first and the second its smallest, so that the memory of the
        two largest need not be there at once. It depends on the sizes only.
        """
        if self.n == 1:
            return [list(range(len(sizes)))]
        lanes: list[list[int]] = [[] for _ in range(self.n)]
        loads = [0] * self.n
        for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
            least = loads.index(min(loads))
            lanes[least].append(index)
            loads[least] += sizes[index]
        return [lane[::-1] if n else lane for n, lane in enumerate(lanes) if lane]


def _taken(take: Callable[[], T]) -> tuple[T] | None:
    """What ``take`` gives, None where nothing is left."""
    try:
        return (take(),)
    except IndexError:
        return None


def _outcome(work: Callable[[T], R], item: T) -> Future[R]:
    """``work`` of ``item``, done by now; its fault, if there is one, is raised by ``result``."""
    found: Future[R] = Future()
    try:
        found.set_result(work(item))
    except Exception as error:  # noqa: BLE001 - the caller gets it, whatever it is
        found.set_exception(error)
    return found


def _told(done: deque[tuple[T, Future[R]]]) -> Iterator[tuple[T, R]]:
    while done:
        item, found = done.popleft()
        yield item, found.result()


def lanes_for(plan: Plan, model: Any, ranks: Ranks) -> Lanes:
    """Two lanes where packs on a CPU are short and independent of one another.

    One lane: rows long enough for all cores; several ranks, which have the cores between them; all
    weights, whose gradient is as large as the model; dropout, which draws from one generator in
    turn; an ema reference, which changes the model within the step; a user's constraint, which may
    keep a state of its own; rotary frequencies that the model may set in each pass; virtual
    tokens, for which a pass switches checkpointing off.
    """
    settings = plan.settings
    alone = model.device.type == "cpu" and ranks.world == 1 and torch.get_num_threads() >= LANES
    small = settings.method != "full" and plan.longest <= LONGEST
    independent = (
        not _draws(model)
        and settings.reference != "ema"
        and not plan.objective.constraints
        and stretches_beyond(model.config.get_text_config()) is None
        and not (settings.activation_checkpointing and has_virtual_tokens(model))
    )
    return Lanes(LANES if alone and small and independent else 1)


def _draws(model: Any) -> bool:
    """Whether the adapter has dropout; that of the base model is off by now.

    Some methods of peft keep their rates where ``dropouts`` does not see them: those are known by
    the names of their settings.
    """
    configs = getattr(model, "peft_config", {}).values()
    named = [value for config in configs for name, value in vars(config).items() if "drop" in name]
    rates = [value for value in named if isinstance(value, float)]
    return any([*rates, *(rate for *_, rate in dropouts(model))])
