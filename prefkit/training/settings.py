"""The settings of a training run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from prefkit.core.errors import ConfigError
from prefkit.settings import Settings
from prefkit.training.losses import losses


class LoraSettings(Settings):
    """The adapter's shape."""

    r: int = Field(default=16, ge=1, le=512, description="Rank of the adapter matrices.")
    alpha: float = Field(
        default=32, gt=0, description="Scale: the update is multiplied by alpha / r."
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Dropout before the adapter, 0 to below 1."
    )
    targets: str | list[str] = Field(
        default="all-linear",
        description="Layers that get an adapter: all-linear (every linear layer but the output "
        "head) or a list of names such as [q_proj, v_proj].",
    )


class TrainSettings(Settings):
    """How an adapter is trained on preference pairs."""

    loss: str = Field(default="sigmoid", description="The loss, by name.")
    beta: float = Field(
        default=0.1,
        gt=0,
        description="Strength of the pull towards the reference model; 0.1 is usual.",
    )
    reference: Literal["base", "start"] = Field(
        default="base",
        description="What the policy is compared with: base (the model without adapter) or start "
        "(the adapter that training starts from).",
    )
    lora: LoraSettings = Field(default=LoraSettings(), description="The adapter.")
    learning_rate: float = Field(default=5e-5, gt=0, description="Peak learning rate of AdamW.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear",
        description="How the learning rate falls after warm-up: linear, cosine, constant.",
    )
    warmup: float = Field(default=0.1, ge=0, lt=1, description="Part of all steps that warms up.")
    weight_decay: float = Field(default=0.0, ge=0, description="Decoupled weight decay.")
    max_grad_norm: float = Field(
        default=1.0, gt=0, description="Gradients are clipped to this norm."
    )
    epochs: int = Field(default=2, ge=1, description="Passes over the pairs.")
    batch_size: int = Field(default=16, ge=1, description="Pairs in an optimiser step.")
    micro_batch_size: int = Field(
        default=8,
        ge=1,
        description="Pairs in memory at once. Smaller needs less memory and changes no result "
        "beyond rounding.",
    )
    max_length: int = Field(default=1024, ge=8, description="Tokens of prompt and answer together.")
    overlong: Literal["truncate", "drop"] = Field(
        default="truncate",
        description="Pairs longer than max_length: truncate cuts the end of both answers, drop "
        "leaves the pair out. Either way they are counted.",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="Precision of the model; auto is bfloat16."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")
    seed: int = Field(
        default=0, ge=0, description="Seed of the adapter's start and the order of pairs."
    )
    checkpoint_every: int = Field(
        default=25, ge=1, description="Steps between checkpoints, from which a killed run goes on."
    )

    @field_validator("loss")
    @classmethod
    def _known_loss(cls, name: str) -> str:
        try:
            losses.get(name)
        except ConfigError as error:
            raise ValueError(f"{error.message} ({error.hint})") from None
        return name

    @model_validator(mode="after")
    def _micro_fits(self) -> TrainSettings:
        if self.batch_size % min(self.micro_batch_size, self.batch_size):
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size "
                f"{self.micro_batch_size}"
            )
        return self

    @property
    def pairs_at_once(self) -> int:
        """The micro-batch size that is used: never more than a batch."""
        return min(self.micro_batch_size, self.batch_size)
