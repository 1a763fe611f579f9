"""The settings of what is trained: the method and its size."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from prefkit.settings import Settings
from prefkit.training.methods import METHODS, find_method


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
        "head), a list of names such as [q_proj, v_proj], or both: [all-linear, lm_head].",
    )


class AdapterSettings(Settings):
    """What is trained of a model."""

    method: str = Field(
        default="lora",
        description="What is trained: lora, dora, qlora (4-bit weights, CUDA), prefix or prompt "
        "(virtual tokens), full (every weight), or ia3, loha, lokr, vera, randlora, oft, hra, "
        "fourierft, miss, delora, hira.",
    )
    lora: LoraSettings = Field(
        default=LoraSettings(),
        description="The adapter: rank, scale and layers of lora, dora and qlora; of the others "
        "what they have of these.",
    )
    n_virtual_tokens: int = Field(
        default=16, ge=1, le=1024, description="Virtual tokens of prefix and prompt."
    )
    method_options: dict[str, bool | int | float | str] = Field(
        default={},
        description="Further options of the method, as peft's configuration names them, such as "
        "{use_rslora: true}.",
    )

    @field_validator("method")
    @classmethod
    def _known_method(cls, name: str) -> str:
        return find_method(name).name

    @model_validator(mode="after")
    def _fits(self) -> AdapterSettings:
        method = METHODS[self.method]
        if self.lora.dropout and not method.dropout:
            raise ValueError(f"lora.dropout: method {method.name} has none; set it to 0")
        if self.method_options and not method.config:
            raise ValueError(f"method_options: method {method.name} takes none")
        return self
