"""The settings of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from prefkit.core.errors import ConfigError
from prefkit.training.adapter_settings import AdapterSettings, LoraSettings
from prefkit.training.alarms import AlarmSettings
from prefkit.training.losses import Loss, losses
from prefkit.training.methods import METHODS

__all__ = ["LoraSettings", "TrainSettings"]


class TrainSettings(AdapterSettings):
    """How a model is trained on preferences."""

    loss: str | dict[str, float] = Field(
        default="sigmoid",
        description="The loss, by name (docs/losses.md), or several with their weights, such as "
        "{sigmoid: 1, nll: 0.2}.",
    )
    beta: float | None = Field(
        default=None,
        gt=0,
        description="Strength of the pull towards the reference model; empty is the loss's own "
        "default, 0.1 for sigmoid.",
    )
    loss_params: dict[str, float] = Field(
        default={}, description="Further parameters of the loss, such as {epsilon: 0.1}."
    )
    labels: Literal["soft", "hard"] = Field(
        default="soft",
        description="soft uses p = P(chosen wins) as it is; hard takes the likelier side as "
        "certain and leaves out ties.",
    )
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = Field(
        default="reverse_kl", description="The f-divergence from the reference (f-DPO)."
    )
    divergence_alpha: float = Field(
        default=0.5, gt=0, lt=1, description="α of the alpha divergence, between 0 and 1."
    )
    ld_alpha: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="LD-DPO: weight of the tokens past the shorter answer's length; empty is 1.",
    )
    wpo: bool = Field(
        default=False, description="WPO: weigh pairs by how likely the policy is to write them."
    )
    reference: str = Field(
        default="base",
        description="What the policy is compared with: base (the model without adapter), start "
        "(the adapter that training starts from), ema (a moving average of the adapter), or "
        "another model or adapter: a folder or Hub id.",
    )
    ema_decay: float = Field(
        default=0.99, ge=0, lt=1, description="Part of the ema reference that stays at a step."
    )
    optimizer: Literal["adamw", "sgd"] = Field(default="adamw", description="adamw or sgd.")
    learning_rate: float = Field(default=5e-5, gt=0, description="Peak learning rate.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear",
        description="How the learning rate falls after warm-up: linear, cosine, constant.",
    )
    warmup: float = Field(default=0.1, ge=0, lt=1, description="Part of all steps that warms up.")
    weight_decay: float = Field(
        default=0.0,
        ge=0,
        description="Decay of weights, not of norms and biases; decoupled under adamw.",
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0, description="Gradients are clipped to this norm."
    )
    epochs: int = Field(default=2, ge=1, description="Passes over the rows.")
    max_steps: int | None = Field(
        default=None, ge=1, description="Stop after this many optimiser steps; empty is no limit."
    )
    batch_size: int = Field(default=16, ge=1, description="Rows in an optimiser step.")
    order: Literal["shuffled", "given"] = Field(
        default="shuffled", description="Order of rows: shuffled in each epoch, or as given."
    )
    tokens_at_once: int | None = Field(
        default=None,
        ge=16,
        description="Tokens in memory at once; empty is 256 on a CPU (512 in 16-bit precision) and "
        "16384 on a GPU. Smaller needs less memory and changes no result beyond rounding.",
    )
    activation_checkpointing: bool = Field(
        default=False,
        description="Compute activations twice instead of keeping them: less memory, more time.",
    )
    max_length: int = Field(
        default=1024, ge=8, description="Tokens of the prompt and an answer together."
    )
    overlong: Literal["answers", "prompt", "drop"] = Field(
        default="answers",
        description="Rows longer than max_length: answers cuts the end of all answers, prompt "
        "the oldest part of the prompt, drop leaves the row out. All are counted.",
    )
    chat_template_kwargs: dict[str, bool | int | float | str] = Field(
        default={},
        description="Handed to the chat template with every row, under a row's own, such as "
        "{enable_thinking: false}.",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32", "float64"] = Field(
        default="auto",
        description="Precision that the model is held and computed in; auto is bfloat16, whatever "
        "its files hold. What is trained is updated in fp32.",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")
    seed: int = Field(
        default=0, ge=0, description="Seed of the adapter's start and the order of rows."
    )
    heldout_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Part of the prompts kept apart to evaluate on, unless --heldout gives rows.",
    )
    evaluate_every: int | None = Field(
        default=None, ge=1, description="Steps between evaluations; empty is at the end only."
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Stop after this many evaluations without a lower held-out loss.",
    )
    keep_best: bool = Field(
        default=False,
        description="Leave the state of the lowest held-out loss instead of the last.",
    )
    n_samples: int = Field(
        default=0, ge=0, le=64, description="Held-out prompts answered at every evaluation."
    )
    alarms: AlarmSettings = Field(
        default=AlarmSettings(), description="When a run says that something goes wrong."
    )
    log_every: int = Field(
        default=1, ge=1, description="Steps between lines of metrics: one wait for the GPU each."
    )
    checkpoint_every: int = Field(
        default=25, ge=1, description="Steps between checkpoints, from which a killed run goes on."
    )
    trackers: list[Literal["tensorboard", "wandb", "trackio", "mlflow"]] = Field(
        default=["tensorboard"], description="Where metrics go besides metrics.jsonl."
    )
    reference_store: str = Field(
        default="auto",
        description="Where reference log-probs are kept: auto (the cache folder), none or a path.",
    )

    @model_validator(mode="after")
    def _loss_fits(self) -> TrainSettings:
        faults = [*_loss_faults(self)]
        if self.reference == "ema" and self.method == "full":
            faults.append("reference ema averages an adapter; method full has none")
        for name in ("patience", "keep_best"):
            if getattr(self, name) and self.evaluate_every is None:
                faults.append(f"{name} needs evaluate_every")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """The names of the losses with their weights."""
        return {self.loss: 1.0} if isinstance(self.loss, str) else self.loss


def _loss_faults(settings: TrainSettings) -> list[str]:
    """What is wrong with loss, beta and loss_params together."""
    if not settings.loss_weights:
        return ["loss names no loss"]
    faults: list[str] = []
    chosen: list[Loss] = []
    for name, weight in settings.loss_weights.items():
        if weight <= 0:
            faults.append(f"loss.{name}: weight {weight} is not above 0")
        try:
            chosen.append(losses.get(name))
        except ConfigError as error:
            faults.append(f"{error.message} ({error.hint})")
    if faults:
        return faults
    return [*_mixture_faults(settings, chosen), *_param_faults(settings, chosen)]


def _mixture_faults(settings: TrainSettings, chosen: list[Loss]) -> list[str]:
    faults: list[str] = []
    if not set.intersection(*({loss.target, *loss.also} for loss in chosen)):
        kinds = ", ".join(f"{loss.name} takes {loss.target} rows" for loss in chosen)
        faults.append(f"these losses have no kind of rows in common: {kinds}")
    if len({loss.rewards for loss in chosen}) > 1:
        faults.append("a loss of a reward model cannot be mixed with one of a language model")
    if any(loss.rewards for loss in chosen):
        faults += _reward_faults(settings)
    elif settings.ld_alpha is not None:
        # A likelihood without its tail, over all of its tokens, would be no likelihood.
        whole = [loss.name for loss in chosen if not loss.needs_reference]
        if whole:
            faults.append(f"ld_alpha: {', '.join(whole)} takes the likelihood of a whole answer")
    if settings.labels == "hard" and any(loss.reads_votes for loss in chosen):
        faults.append("labels: hard has no meaning for a loss that reads the raw votes")
    if settings.divergence != "reverse_kl":
        closed = [x.name for x in chosen if x.needs_reference and not x.divergences]
        if closed:
            faults.append(f"divergence: {', '.join(closed)} has no other form than reverse_kl")
        elif not any(loss.divergences for loss in chosen):
            names = " + ".join(loss.name for loss in chosen)
            faults.append(f"divergence: {names} compares with no reference")
    return faults


def _reward_faults(settings: TrainSettings) -> list[str]:
    """What a reward model cannot be trained with."""
    faults = [f"{name}: a reward model has no log-probs" for name in ("wpo", "ld_alpha")
              if getattr(settings, name) not in (None, False)]  # fmt: skip
    if METHODS[settings.method].kind == "virtual":
        faults.append(f"method {settings.method}: peft trains no reward beside virtual tokens")
    if settings.n_samples:
        faults.append("n_samples: a reward model writes no answers")
    if settings.reference != "base":
        faults.append(f"reference {settings.reference}: a reward model is compared with none")
    return faults


def _param_faults(settings: TrainSettings, chosen: list[Loss]) -> list[str]:
    given = dict(settings.loss_params)
    if settings.beta is not None:
        given["beta"] = settings.beta
    faults: list[str] = []
    for key, value in given.items():
        takers = [loss for loss in chosen if key in loss.params]
        if not takers:
            known = sorted({name for loss in chosen for name in loss.params})
            faults.append(
                f"{key}: {' + '.join(loss.name for loss in chosen)} takes no such parameter; "
                f"it takes {', '.join(known) or 'none'}"
            )
        for param in (loss.params[key] for loss in takers):
            if not param.low <= value <= param.high:
                faults.append(f"{key}: {value:g} is outside its range, {param.range}")
    return faults
