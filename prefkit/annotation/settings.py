"""The ``annotate`` section of prefkit.yaml."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from prefkit.core.ids import content_id
from prefkit.settings import Settings

GUIDELINES = """\
Which answer would you rather have received?

- Look first at whether the answer does what was asked, and whether it is true.
- Then at clarity: an answer that is shorter and says as much is better.
- Do not reward length, confidence or decoration for their own sake.
- Choose *tie* when you could not say which is better, *both bad* when neither is usable, and
  *invalid* when the pair cannot be judged: it is broken, or in a language you do not read.
"""


class AnnotateSettings(Settings):
    """How people label: how many votes a comparison wants, the port, what raters are told."""

    k: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="How many raters vote on each comparison before it counts as labelled.",
    )
    store: str | None = Field(
        default=None,
        description="Where votes are kept: null for votes.db in the workspace, or a "
        "postgresql+psycopg:// URL for a team.",
    )
    port: int = Field(
        default=7860,
        ge=1,
        le=65535,
        description="Port of the app on this machine (127.0.0.1 only).",
    )
    guidelines: str = Field(
        default=GUIDELINES,
        min_length=1,
        description="What raters read under Guidelines (Markdown). Each vote records which text "
        "was shown.",
    )

    @field_validator("store")
    @classmethod
    def _is_one_place(cls, store: str | None) -> str | None:
        """A relative path would be another store in every folder that a command runs in."""
        if store is None or "://" in store or Path(store).is_absolute():
            return store
        raise ValueError("expected null, a postgresql+psycopg:// URL or a path that is absolute")

    @property
    def guideline_version(self) -> str:
        """The first 12 digits of the digest of the guidelines, as votes record it."""
        return content_id(self.guidelines)[:12]
