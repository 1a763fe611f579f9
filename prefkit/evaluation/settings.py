"""What is measured of a policy, and how its answers are drawn."""

from __future__ import annotations

from pydantic import Field

from prefkit.engines.settings import EngineSettings
from prefkit.settings import Settings


class EvaluateSettings(Settings):
    """The ``evaluate`` section of prefkit.yaml."""

    rule: str | None = Field(
        default=None,
        description="The rule that says which of two answers is better; null takes the machine "
        "rater's rule where there is one.",
    )
    max_tokens: int = Field(
        default=256, ge=1, description="The most new tokens of an answer; answers are greedy."
    )
    pair_prompts: int = Field(
        default=128,
        ge=0,
        description="Held-out prompts for which a clean pair is made to measure reward accuracy.",
    )
    engine: EngineSettings = Field(default=EngineSettings(), description="What writes the answers.")
