"""How machines vote: one settings model for every rater."""

from __future__ import annotations

from pydantic import Field

from prefkit.engines.settings import EngineSettings
from prefkit.judging.rules import TIE_BELOW
from prefkit.settings import Settings

GUIDELINE = "Which answer is better: more correct, more useful, and following the instructions?"


class JudgeSettings(Settings):
    """The ``judge`` section of prefkit.yaml."""

    rater: str = Field(
        default="format",
        description="Who votes: the name of a rule (format), llm for a model as judge, or reward "
        "for a reward model.",
    )
    noise: float = Field(
        default=0.0,
        ge=0.0,
        le=0.5,
        description="Rules only: the share of verdicts that flip, to imitate careless labels.",
    )
    seed: int = Field(default=0, description="Which verdicts flip under noise.")
    tie_below: float = Field(
        default=TIE_BELOW,
        gt=0.0,
        lt=1.0,
        description="Rules only: two scores closer than this are a tie.",
    )
    model: str = Field(
        default="smollm2",
        description="llm and reward: the judge, as a Hub id, a folder or a GGUF file.",
    )
    adapter: str | None = Field(
        default=None,
        description="reward only: the folder of an adapter that was trained over model with "
        "loss bradley_terry; null where model is the reward model itself.",
    )
    guideline: str = Field(
        default=GUIDELINE, description="llm only: the question put to the judge."
    )
    engine: EngineSettings = Field(
        default=EngineSettings(),
        description="llm: what runs the judge; reward: its dtype and device.",
    )
