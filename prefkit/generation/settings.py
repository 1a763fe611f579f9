"""How many answers are drawn and how they are paired."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from prefkit.core.records import Sampling
from prefkit.engines.settings import EngineSettings
from prefkit.settings import Settings


class GenerateSettings(Settings):
    """The ``generate`` section of prefkit.yaml."""

    n: int = Field(default=4, ge=1, description="Answers drawn for each prompt.")
    temperature: float = Field(
        default=1.0,
        ge=0.0,
        description="Spread of the answers; 0 is greedy and makes them all equal.",
    )
    top_p: float = Field(
        default=1.0, gt=0.0, le=1.0, description="Draw from the likeliest tokens up to this mass."
    )
    max_tokens: int = Field(default=256, ge=1, description="The most new tokens of an answer.")
    seed: int = Field(default=0, description="Which answers are drawn and which pairs are made.")
    pairing: str = Field(
        default="random",
        description="How pairs are picked: random, or most_different (fewest words in common; for "
        "people).",
    )
    pairs_per_prompt: int = Field(
        default=1, ge=0, description="The most pairs made for each prompt."
    )
    unfinished: Literal["drop", "keep"] = Field(
        default="drop",
        description="Answers that max_tokens cut off: drop leaves them out of pairs, since they "
        "would teach to stop in mid-sentence; keep pairs them. Counted either way.",
    )
    engine: EngineSettings = Field(
        default_factory=EngineSettings, description="What writes the answers."
    )

    @property
    def sampling(self) -> Sampling:
        """The part that engines see."""
        return Sampling(self.temperature, self.top_p, self.max_tokens)
