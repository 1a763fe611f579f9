"""The ``annotate`` section of prefkit.yaml."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

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


class Overlap(Settings):
    """Adaptive overlap: after k votes, more until the posterior is sure enough."""

    most: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="The most votes a comparison gets; null: k and no more.",
    )
    sure: float = Field(
        default=0.9,
        gt=0.5,
        lt=1,
        description="Stop once P(one side is better) under the votes reaches this.",
    )


class OidcSettings(Settings):
    """An identity provider that says who people are."""

    issuer: str = Field(
        pattern=r"\Ahttps?://\S+\z",
        description="Its address, as its tokens name it, for example https://id.example.org.",
    )
    client_id: str = Field(min_length=1, description="What this app is called there.")
    client_secret_env: str | None = Field(
        default=None,
        description="The environment variable that holds the client's secret; null for none.",
    )
    role: Literal["rater", "reviewer", "lead"] = Field(
        default="rater", description="What somebody may do who logs in for the first time."
    )
    domains: tuple[str, ...] = Field(
        min_length=1,
        description="Domains of (verified) mail addresses that may log in; ['*'] for anybody "
        "whom the provider knows.",
    )


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
        description="Port of the app, which is reached from this machine only without --host.",
    )
    guidelines: str = Field(
        default=GUIDELINES,
        min_length=1,
        description="What raters read under Guidelines (Markdown). Each vote records which text "
        "was shown.",
    )

    order: Literal["random", "stratified", "uncertain"] = Field(
        default="random",
        description="Which comparisons come first. random: a shuffle that all raters share; "
        "stratified: every part of the work holds the strata in their shares; uncertain: those "
        "whose votes so far say least.",
    )
    strata: str = Field(
        default="origin",
        pattern=r"\A(origin|tag:.+)\z",
        description="What order stratified goes by: origin, or tag:NAME of the prompt.",
    )
    random_slice: float = Field(
        default=0.2,
        ge=0.2,
        le=1,
        description="With order uncertain or overlap.most: the share of comparisons that come in "
        "random order with k votes each, for estimates without bias.",
    )
    overlap: Overlap = Field(
        default_factory=Overlap,
        description="More votes where the first k leave it open.",
    )
    lease_minutes: int = Field(
        default=10,
        ge=1,
        le=60,
        description="How long a pair is kept for a rater who gives no sign of life.",
    )
    ahead: int = Field(
        default=1,
        ge=1,
        le=50,
        description="How many pairs a page holds beside the one in view. More of them let a rater "
        "go on for longer without a network, and keep more places from the others.",
    )
    gold: str | None = Field(
        default=None,
        description="A file of pairs with a column choice (a or b: the better one): shown among "
        "the others, to see how raters do.",
    )
    gold_rate: float = Field(
        default=0.05, ge=0, le=0.5, description="The share of shown pairs that are gold."
    )
    repeat_rate: float = Field(
        default=0.03,
        ge=0,
        le=0.5,
        description="The share of shown pairs that a rater sees a second time, sides swapped.",
    )
    fast_ms: int = Field(
        default=1500,
        ge=0,
        description="A vote after less time in view counts as too fast, in milliseconds.",
    )

    aspects: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        default=(),
        max_length=9,
        description="What raters may judge apart, each left, right or tie: helpfulness, "
        "factuality, safety, style, or any other words.",
    )
    confidence: bool = Field(
        default=False, description="Whether raters may say how sure they are, in five steps."
    )
    rationale_at: int = Field(
        default=4,
        ge=0,
        le=4,
        description="The strength (3 much better, 0 a tie) from which the page asks for a reason; "
        "4: never. A reason can always be given.",
    )
    media: str = Field(
        default="media",
        min_length=1,
        description="The folder of the images and audio files that pairs name, in the workspace "
        "or absolute. Nothing outside it is shown.",
    )

    public_url: str | None = Field(
        default=None,
        pattern=r"\Ahttps?://[A-Za-z0-9.\-\[\]:]+/?\z",
        description="The address people use where a proxy stands in front, for example "
        "https://label.example.org; with https, cookies go over https only.",
    )
    proxies: tuple[str, ...] = Field(
        default=(),
        description="Addresses or networks of proxies whose X-Forwarded-For is believed.",
    )
    session_hours: int = Field(
        default=72, ge=1, le=24 * 90, description="How long a log-in lasts, in hours."
    )
    oidc: OidcSettings | None = Field(
        default=None,
        description="Log-in through an identity provider (OpenID Connect): issuer, client_id, "
        "client_secret_env, role, domains. Needs: pip install 'prefkit[oidc]'",
    )
    webhooks_private: bool = Field(
        default=False,
        description="Whether webhooks may go to addresses of this machine and private networks.",
    )

    @field_validator("aspects")
    @classmethod
    def _differ(cls, aspects: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(aspects)) < len(aspects):
            raise ValueError("expected each aspect once")
        return aspects

    @field_validator("proxies")
    @classmethod
    def _are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            ip_network(proxy)
        return proxies

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
