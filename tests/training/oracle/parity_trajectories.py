"""Twenty optimiser steps of TRL 1.16.0's trainers beside twenty of ``prefkit.train``.

Both read the same rows in the same order, start from the same weights and are compared with the
same reference; each uses its own tokens, masks, batches, reference scoring, loss, clipping and
optimiser. TRL adds up micro-batches of a step; ours are packed trees.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from planted_pairs import make_pair
from torch import Tensor
from training.oracle.parity_grid import LOSSES

STEPS, BATCH = 20, 6
# What the two may differ by: in loss, in gradient norm relative to TRL's, in any parameter.
LOSS, NORM, WEIGHTS = 1e-5, 1e-4, 1e-5
# A template whose turns end with their end token: prefkit does not score the line break that the
# tiny model's own puts after it, TRL does.
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
RATES = {("sgd", "lora"): 0.05, ("sgd", "full"): 0.05}
RATES |= {("adamw", "lora"): 2e-3, ("adamw", "full"): 2e-4}


@dataclass(frozen=True)
class Setting:
    """One comparison. mixture: TRL's loss types with their weights. reference: "start" (the adapter
    that training starts from), "base" (the model under it) or "other" (another checkpoint). micro:
    rows of TRL's micro-batch."""

    mixture: Mapping[str, float]
    optimizer: str
    method: str
    reference: str
    micro: int = 2
    beta: float = 0.3

    @property
    def trainer(self) -> str:
        """TRL's trainer of it."""
        return "KTOTrainer" if "kto" in self.mixture else "DPOTrainer"

    @property
    def label(self) -> str:
        """The mixture: "sigmoid", or "1·sigmoid + 0.2·sft"."""
        parts = [f"{weight:g}·{name}" for name, weight in self.mixture.items()]
        return " + ".join(parts) if len(parts) > 1 else next(iter(self.mixture))

    @property
    def ours(self) -> str:
        """Our losses of it."""
        return " + ".join(_our_loss(name) for name in self.mixture)

    @property
    def name(self) -> str:
        """What a test of it is called."""
        return f"{self.label} {self.optimizer} {self.method} {self.reference}"


SETTINGS = (
    Setting({"sigmoid": 1.0}, "sgd", "lora", "start"),
    Setting({"sigmoid": 1.0}, "adamw", "lora", "start"),
    Setting({"sigmoid": 1.0}, "sgd", "full", "other"),
    Setting({"sigmoid": 1.0}, "adamw", "full", "other"),
    Setting({"ipo": 1.0}, "adamw", "lora", "base"),
    # A margin of 1 is not reached, where the loss and its gradient would be zero on both sides.
    Setting({"hinge": 1.0}, "adamw", "lora", "base", beta=0.02),
    Setting({"apo_zero": 1.0}, "adamw", "lora", "base"),
    # Means over a micro-batch's tokens, or sorted within it: the micro-batch is the whole step.
    Setting({"sigmoid": 1.0, "sft": 0.2}, "adamw", "lora", "base", micro=BATCH),
    Setting({"aot_unpaired": 1.0}, "adamw", "lora", "base", micro=BATCH),
    Setting({"kto": 1.0}, "adamw", "lora", "base", micro=BATCH),
)


@dataclass(frozen=True)
class Path20:
    """losses, norms: of every step; the norm is taken before clipping. weights: trained parameters
    after the last, by name."""

    losses: list[float]
    norms: list[float]
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class Difference:
    """How far two trajectories are apart.

    loss: the largest |difference| of a step; norm: the same relative to the norm of the first;
    weights: the largest |difference| of a parameter after the last step; moved: how far the
    parameter that went furthest is from its start.
    """

    setting: Setting
    loss: float = 0.0
    norm: float = 0.0
    weights: float = 0.0
    moved: float = 0.0


@dataclass(frozen=True)
class Stage:
    """Folders of the model, of another checkpoint of it and of an adapter; rows in TRL's formats.
    work: where runs are written."""

    model: Path
    other: Path
    adapter: Path
    pairs: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    work: Path


def make_stage(model_folder: Path, work: Path) -> Stage:
    """The tiny model with TEMPLATE, its weights moved a little as the other checkpoint, and a LoRA
    adapter that is not zero."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.chat_template = TEMPLATE
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    folders = work / "model", work / "other", work / "adapter"
    stage = Stage(*folders, _pairs(), _answers(tokenizer), work / "runs")
    for folder in (stage.model, stage.other):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        noised(model, 1)
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"],
        init_lora_weights=False, task_type="CAUSAL_LM",
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        get_peft_model(_load(stage.model), config).save_pretrained(str(stage.adapter))
    return stage


def noised(model: Any, seed: int) -> Any:
    """``model`` with every weight moved a little, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return model


def _pairs() -> list[dict[str, Any]]:
    """24 dialogues with two answers: four steps of an epoch."""
    rng = random.Random(11)
    made = [make_pair(rng) for _ in range(4 * BATCH)]
    say = lambda messages: [{"role": m.role, "content": m.text} for m in messages]  # noqa: E731
    return [
        {
            "prompt": say(pair.prompt.messages),
            "chosen": say(pair.chosen),
            "rejected": say(pair.rejected),
        }
        for pair in made
    ]


def _answers(tokenizer: Any) -> list[dict[str, Any]]:
    """One step's answers with labels. KTO's z0 is estimated from an answer to another prompt: TRL
    lends each row the answer of the row before it, so they are put in the order in which ours do.
    """
    from prefkit.training.plan import with_mismatches
    from prefkit.training.rows import encode_rows, read_rows

    rows = [
        {
            "prompt": pair["prompt"],
            "completion": pair["chosen" if label else "rejected"],
            "label": label,
        }
        for pair, label in zip(_pairs(), [True, False, True, True, False, False], strict=False)
    ]
    encoded = encode_rows(tokenizer, read_rows(rows, "unpaired").rows, max_length=512)
    sides = [
        [branch.ids.tobytes() for branch in row.tree.branches]
        for row in with_mismatches(encoded, 512).rows
    ]
    answers, lent = [own for own, _ in sides], [other for _, other in sides]
    order = [0]
    while len(order) < len(rows):
        order.append(lent.index(answers[order[-1]]))
    return [rows[i] for i in order]


def _rows(stage: Stage, setting: Setting) -> Any:
    from datasets import Dataset

    return Dataset.from_list(stage.answers if setting.trainer == "KTOTrainer" else stage.pairs)


def _load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def _our_loss(name: str) -> str:
    return LOSSES[name][0] if name in LOSSES else name


# ---- TRL's side ----------------------------------------------------------------------------------


def theirs(stage: Stage, setting: Setting) -> Path20:
    """Twenty steps of TRL's trainer."""
    trainer = _trl_trainer(stage, setting)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "grad_norm" in line]
    return Path20(
        [line["loss"] for line in lines],
        [line["grad_norm"] for line in lines],
        {
            name.replace(".default.", "."): weight.detach().clone()
            for name, weight in trainer.model.named_parameters()
            if setting.method == "full" or ".default." in name
        },
    )


def _trl_trainer(stage: Stage, setting: Setting) -> Any:
    import trl
    from peft import PeftModel
    from transformers import AutoTokenizer

    rows = _rows(stage, setting)
    model, reference = _load(stage.model), None
    if setting.method == "lora":
        model = PeftModel.from_pretrained(model, stage.adapter, is_trainable=True)
    if setting.reference != "start":  # without one TRL compares with a copy of the adapter
        reference = _load(stage.other if setting.reference == "other" else stage.model)
    config: dict[str, Any] = {"loss_type": "kto"}
    if setting.trainer == "DPOTrainer":
        config = {
            "loss_type": list(setting.mixture),
            "loss_weights": list(setting.mixture.values()),
            # The reference is scored beforehand on one side of the optimisers, in the step on the
            # other.
            "precompute_ref_log_probs": setting.optimizer == "sgd",
            "label_smoothing": _smoothing(setting) or 0.0,
        }
    return getattr(trl, setting.trainer)(
        model=model,
        ref_model=reference,
        args=getattr(trl, setting.trainer.replace("Trainer", "Config"))(
            output_dir=str(stage.work / "trl"), bf16=False, use_cpu=True, report_to=[],
            gradient_checkpointing=False, disable_tqdm=True, save_strategy="no", logging_steps=1,
            beta=setting.beta, max_grad_norm=1.0, lr_scheduler_type="constant", warmup_steps=0,
            optim={"sgd": "sgd", "adamw": "adamw_torch"}[setting.optimizer],
            learning_rate=RATES[setting.optimizer, setting.method],
            per_device_train_batch_size=setting.micro,
            gradient_accumulation_steps=BATCH // setting.micro,
            num_train_epochs=STEPS * BATCH / len(rows),
            train_sampling_strategy="sequential", **config,
        ),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(stage.model),
    )  # fmt: skip


def _smoothing(setting: Setting) -> float | None:
    """The ε that both sides get, None where no loss of the mixture takes one."""
    return next((LOSSES[n][1]["epsilon"] for n in setting.mixture
                 if n in LOSSES and "epsilon" in LOSSES[n][1]), None)  # fmt: skip


# ---- our side ------------------------------------------------------------------------------------


def ours(stage: Stage, setting: Setting, **changes: Any) -> Path20:
    """Twenty steps of ``prefkit.train``; changes: settings that differ from TRL's."""
    from safetensors.torch import load_file

    import prefkit
    from prefkit.training import TrainSettings

    rows = _rows(stage, setting)
    epsilon = _smoothing(setting)
    values: dict[str, Any] = {
        "loss": {_our_loss(name): weight for name, weight in setting.mixture.items()},
        "loss_params": {} if epsilon is None else {"epsilon": epsilon},
        "beta": setting.beta, "method": setting.method, "optimizer": setting.optimizer,
        "reference": str(stage.other) if setting.reference == "other" else setting.reference,
        "learning_rate": RATES[setting.optimizer, setting.method], "schedule": "constant",
        "warmup": 0.0, "epochs": STEPS * BATCH // len(rows), "batch_size": BATCH,
        "order": "given", "dtype": "float32", "device": "cpu", "tokens_at_once": 96,
        "trackers": [], "reference_store": "none",
    }  # fmt: skip
    out = stage.work / "prefkit"
    result = prefkit.train(
        str(stage.model),
        rows,
        TrainSettings(**values | changes),
        out=out,
        start_adapter=stage.adapter if setting.method == "lora" else None,
    )
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    if setting.method == "full":
        weights = dict(_load(result.folder).named_parameters())
    else:
        weights = load_file(result.folder / "adapter_model.safetensors")
    return Path20(
        [line["loss"] for line in lines],
        [line["grad_norm"] for line in lines],
        {name: weight.detach() for name, weight in weights.items()},
    )


# ---- both ----------------------------------------------------------------------------------------


def start_weights(stage: Stage, setting: Setting) -> dict[str, Tensor]:
    """The trained parameters before the first step, by name."""
    from safetensors.torch import load_file

    if setting.method == "lora":
        return load_file(stage.adapter / "adapter_model.safetensors")
    return {name: weight.detach() for name, weight in _load(stage.model).named_parameters()}


def difference(stage: Stage, setting: Setting, one: Path20, other: Path20) -> Difference:
    """How far ``other`` is from ``one``; both have to have every step and every parameter."""
    if not len(one.losses) == len(other.losses) == STEPS or set(one.weights) != set(other.weights):
        raise AssertionError(f"{setting.name}: the two have not the same steps and parameters")
    start = start_weights(stage, setting)
    apart = lambda a, b: max(float((a[key] - b[key]).abs().max()) for key in b)  # noqa: E731
    return Difference(
        setting,
        loss=max(abs(a - b) for a, b in zip(one.losses, other.losses, strict=True)),
        norm=max(abs(a - b) / a for a, b in zip(one.norms, other.norms, strict=True)),
        weights=apart(one.weights, other.weights),
        moved=apart(one.weights, start),
    )


def trajectories(stage: Stage) -> Iterator[Difference]:
    """Every setting, run on both sides."""
    for setting in SETTINGS:
        yield difference(stage, setting, theirs(stage, setting), ours(stage, setting))
