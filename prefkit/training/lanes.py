"""Packs side by side on a CPU, each in a thread of its own with its share of the cores.

Kernels over a few hundred tokens are too short for several cores to share them: a step of 8 pairs
of SmolLM2 in fp32 took two cores 6.3 s pack after pack, and 4.7 s with a pack each (2026-11-21,
docs/log.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from prefkit.training.ranks import Ranks
from prefkit.training.scorer import dropouts
from prefkit.training.settings import TrainSettings

if TYPE_CHECKING:
    from prefkit.training.plan import Plan

# More would cost more memory: each lane holds the activations of a pack.
LANES = 2

T = TypeVar("T")
R = TypeVar("R")


class Lanes:
    """Calls a function on several items, ``n`` (1 or 2) at a time.

    A pack is computed by as many threads whichever lane it meets, so results do not depend on
    which is free.
    """

    def __init__(self, n: int = 1) -> None:
        self.n = n

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """``work`` of each item, in their order. With one lane each is called for when its turn
        comes. With two, the caller's thread begins at the first item and another at the last:
        packs come largest first, and the memory of the two largest need not be there at once.

        Whether gradients are recorded is a thread's own: ``work`` has to say it.
        """
        if self.n == 1:
            yield from map(work, items)
            return
        results: list[Future[R]] = [Future() for _ in items]
        waiting = deque(range(len(items)))
        threads = torch.get_num_threads()
        share = max(1, threads // self.n)

        def from_the_end() -> None:
            torch.set_num_threads(share)
            with suppress(IndexError):  # nothing waits any more
                while True:
                    _fill(results[at := waiting.pop()], work, items[at])

        other = Thread(target=from_the_end, name="lane")
        other.start()
        torch.set_num_threads(share)
        try:
            told = 0
            while waiting:
                with suppress(IndexError):  # the other lane took it
                    _fill(results[at := waiting.popleft()], work, items[at])
                while told < len(items) and results[told].done():
                    yield results[told].result()
                    told += 1
            for result in results[told:]:
                yield result.result()
        finally:
            waiting.clear()
            other.join()
            torch.set_num_threads(threads)


def _fill(result: Future[R], work: Callable[[T], R], item: T) -> None:
    try:
        result.set_result(work(item))
    except BaseException as error:  # noqa: BLE001 - the caller gets it, whatever it is
        result.set_exception(error)


def lanes_for(plan: Plan, model: Any, ranks: Ranks) -> Lanes:
    """Two lanes where packs on a CPU are independent of one another and memory allows it.

    One lane: several ranks have the cores between them; all weights have gradients as large as
    the model, one a pack; dropout draws from one generator in turn; an ema reference changes the
    model within the step; a user's constraint may keep a state of its own.
    """
    settings = plan.settings
    alone = model.device.type == "cpu" and ranks.world == 1 and torch.get_num_threads() >= LANES
    small = settings.method != "full"
    independent = (
        not _draws(settings, model)
        and settings.reference != "ema"
        and not plan.objective.constraints
        and not _stretches(model.config.get_text_config())
    )
    return Lanes(LANES if alone and small and independent else 1)


def _draws(settings: TrainSettings, model: Any) -> bool:
    """Whether the adapter has dropout; that of the base model is off by now."""
    named = any("drop" in name for name in settings.method_options)
    return named or settings.lora.dropout > 0 or any(rate for *_, rate in dropouts(model))


def _stretches(config: Any) -> bool:
    """Whether the model changes its rotary frequencies with the length of what it reads."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    return any(kind.get("rope_type") in ("dynamic", "longrope") for kind in kinds)
