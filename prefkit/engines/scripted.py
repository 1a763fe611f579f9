"""Made-up text without a model: for tests and for trying a workspace out. The same request and
policy always give the same answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefkit.core.errors import ConfigError
from prefkit.core.records import Prompt
from prefkit.core.rng import derive_rng
from prefkit.engines.base import Request, Sample, Unanswered

OPENINGS = ("In short:", "Let me explain.", "Good question.", "Well,", "Certainly.", "To begin,")
TOPICS = (
    "the answer depends on the details",
    "there are three things to know",
    "most people start with the simple case",
    "it helps to look at an example first",
    "the short form is easier to remember",
)
CLOSINGS = ("That is all.", "I hope this helps.", "Try it and see.", "", "Ask me for more.")


class ScriptedEngine:
    """Fills a template from the seed of each sample."""

    def __init__(self, script: str, policy: str) -> None:
        self.script = script
        self.policy = policy

    def sample(
        self, requests: Sequence[Request]
    ) -> Iterator[tuple[int, list[Sample] | Unanswered]]:
        """Yield in the order of the requests; greedy requests get n equal answers."""
        for index, request in enumerate(requests):
            seeds = request.sample_seeds()
            if request.sampling.temperature == 0:
                seeds = [0] * request.n
            yield index, [self._write(request, seed) for seed in seeds]

    def _write(self, request: Request, seed: int) -> Sample:
        prompt, rng = request.prompt, derive_rng(seed, request.prompt.id, self.policy)
        try:
            text = self.script.format(
                opening=rng.choice(OPENINGS),
                topic=rng.choice(TOPICS),
                closing=rng.choice(CLOSINGS),
                prompt=_question(prompt),
            )
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(
                f"engine.script {self.script!r}: {error}",
                hint="known fields: {opening}, {topic}, {closing}, {prompt}",
            ) from None
        words = text.split()
        limit = request.sampling.max_tokens
        if len(words) > limit:
            return Sample(" ".join(words[:limit]), "length", None)
        return Sample(text.strip(), "stop", None)


def _question(prompt: Prompt) -> str:
    return prompt.messages[-1].text if prompt.messages else ""
