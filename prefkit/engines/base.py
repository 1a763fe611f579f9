"""The seam between prefkit and whatever writes text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from prefkit.core.ids import content_id
from prefkit.core.records import Prompt, Sampling
from prefkit.core.rng import derive_seed


@dataclass(frozen=True, slots=True)
class Request:
    """n answers to one prompt. seed: of the request; each sample derives its own from it."""

    prompt: Prompt
    n: int
    sampling: Sampling
    seed: int

    def key(self, model: str) -> str:
        """What names the request's answers in a journal; ``model`` is the policy's digest."""
        return content_id(
            {
                "prompt": self.prompt.id,
                "model": model,
                "sampling": self.sampling.canonical(),
                "seed": self.seed,
                "n": self.n,
            }
        )

    def sample_seeds(self) -> list[int]:
        """One seed a sample; the same for a sample whatever n is."""
        return [derive_seed(self.seed, self.prompt.id, index) for index in range(self.n)]


class Sample(NamedTuple):
    """One answer. finish_reason: "stop", "length" or None; logprob: summed, nats, or None.

    The log-probability is the model's own (temperature 1), the end-of-turn token included.
    """

    text: str
    finish_reason: str | None
    logprob: float | None


class Unanswered(NamedTuple):
    """A request that got no answer, and why; counted, and asked again by the next run."""

    reason: str


class Engine(Protocol):
    """Writes answers. Built once a worker, so a model is loaded once."""

    def sample(
        self, requests: Sequence[Request]
    ) -> Iterator[tuple[int, list[Sample] | Unanswered]]:
        """Yield (index of the request, its n samples) as they get done, in any order.

        Every index comes exactly once.
        """
        ...
