"""TRL 1.16.0 and prefkit on the same log-probs: every loss, divergence and modifier TRL accepts.

TRL's own trainers are built on a tiny model and their ``_compute_loss`` is called as it stands;
only the forward pass is replaced by one that returns chosen per-token log-probs, so that both
sides see the same numbers and gradients are compared token by token. References are far from the
policy: where the two agree, as at the start of training, most faults cannot be seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from prefkit.training.losses import Logps, Targets, losses
from prefkit.training.losses.modifiers import ld_dpo_sums, wpo_weights

ROWS, WIDTH = 6, 14
DIVERGENCES = {
    "reverse_kl": "reverse_kl",
    "forward_kl": "forward_kl",
    "js_divergence": "js",
    "alpha_divergence": "alpha",
}
# TRL's loss_type → our loss and the parameters that make it the same.
LOSSES: dict[str, tuple[str, dict[str, float]]] = {
    "sigmoid": ("sigmoid", {}),
    "hinge": ("hinge", {}),
    "ipo": ("ipo_mean", {}),
    "exo_pair": ("exo", {"epsilon": 0.1}),
    "nca_pair": ("nca", {}),
    "robust": ("robust", {"epsilon": 0.1}),
    "bco_pair": ("bco", {"shift": 0.0}),
    "sppo_hard": ("sppo", {}),
    "aot": ("aot", {"epsilon": 0.1}),
    "aot_unpaired": ("aot_unpaired", {"epsilon": 0.1}),
    "apo_zero": ("apo_zero", {}),
    "apo_down": ("apo_down", {}),
    "discopop": ("discopop", {"tau": 0.05}),
    "sft": ("sft", {}),
    "sigmoid_norm": ("sigmoid_norm", {}),
}
MIXTURES = [{"sigmoid": 1.0, "sft": 0.2}, {"sigmoid": 0.8, "bco_pair": 0.2, "sft": 1.0}]
TRL_DIVERGES = ("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft")
# TRL multiplies the WPO weight into a tensor that autograd still needs: its backward fails.
WPO_FAILS = ("hinge",)
BETA = 0.3


@dataclass(frozen=True)
class Case:
    """One comparison. mixture: TRL's loss types with their weights."""

    trainer: str
    mixture: dict[str, float]
    divergence: str = "reverse_kl"
    wpo: bool = False
    ld_alpha: float | None = None
    ours: str = ""

    @property
    def label(self) -> str:
        """The mixture: "sigmoid", or "1·sigmoid + 0.2·sft"."""
        parts = [f"{weight:g}·{name}" for name, weight in self.mixture.items()]
        return " + ".join(parts) if len(parts) > 1 else next(iter(self.mixture))

    @property
    def name(self) -> str:
        """What a test of it is called."""
        label = f"{self.label} {self.divergence}"
        label += "" if self.ld_alpha is None else f" ld_alpha={self.ld_alpha:g}"
        return label + (" WPO" if self.wpo else "")


@dataclass(frozen=True)
class Outcome:
    """How far apart the two are: |difference| / max(1, |TRL's|), the largest for gradients."""

    case: Case
    value: float
    gradient: float


@dataclass
class Batch:
    """Per-token log-probs in TRL's layout, chosen rows first, zero outside the answers."""

    mask: Tensor  # (2 · ROWS, WIDTH) bool: the scored tokens
    logps: Tensor
    log_p2: Tensor
    reference: Tensor
    row_of: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.row_of = torch.arange(ROWS).repeat(2)


def make_batch(seed: int) -> Batch:
    """Answers of 1 to 10 tokens behind prompts of 1 to 4, references 1.5 nats an answer away."""
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(0, 4, (2 * ROWS, 1), generator=generator)
    ends = starts + torch.randint(1, 11, (2 * ROWS, 1), generator=generator)
    places = torch.arange(WIDTH)
    mask = (places >= starts) & (places < ends)
    logps = -2.5 * torch.rand(2 * ROWS, WIDTH, generator=generator) * mask
    log_p2 = -2.5 * torch.rand(2 * ROWS, WIDTH, generator=generator) * mask
    noise = torch.randn(2 * ROWS, WIDTH, generator=generator) * mask
    return Batch(mask, logps, log_p2, logps + noise * 1.5 / mask.sum(1, keepdim=True).sqrt())


# ---- the two sides of a DPO case -----------------------------------------------------------------


def theirs(trainer: Any, case: Case, batch: Batch) -> tuple[Tensor, Tensor]:
    """TRL's loss () and its gradient by token."""
    types = list(case.mixture)
    trainer.loss_types, trainer.loss_weights = types, [case.mixture[name] for name in types]
    smoothed = [name for name in types if "epsilon" in LOSSES[name][1]]
    trainer.label_smoothing = LOSSES[smoothed[0]][1]["epsilon"] if smoothed else 0.0
    trainer.beta, trainer.f_divergence_type = BETA, case.divergence
    trainer.f_alpha_divergence_coef = 0.5
    trainer.use_weighting, trainer.ld_alpha = case.wpo, case.ld_alpha
    trainer.precompute_ref_logps = True
    reference = trl_sums(batch, batch.reference, case.ld_alpha)
    logps = batch.logps.clone().requires_grad_()
    value = trainer._compute_loss(forward(logps, batch.log_p2), dpo_inputs(batch, reference), False)
    return value.detach(), torch.autograd.grad(value, logps)[0][batch.mask]


def forward(logps: Tensor, log_p2: Tensor) -> Callable[..., SimpleNamespace]:
    """A model whose fused head gives these log-probs."""
    filler = torch.zeros_like(logps)
    output = SimpleNamespace(
        log_probs=logps,
        log_sum_sq_probs=log_p2,
        entropy=filler,
        mean_logits=filler,
        is_top1=filler.bool(),
        loss=filler.sum(),
        aux_loss=None,
    )
    return lambda **_: output


def dpo_inputs(batch: Batch, reference: Tensor) -> dict[str, Tensor]:
    """A collated batch; a token is predicted from the place before it."""
    whole = torch.cat([torch.zeros(2 * ROWS, 1, dtype=torch.bool), batch.mask], dim=1)
    return {
        "input_ids": torch.zeros(2 * ROWS, WIDTH + 1, dtype=torch.long),
        "attention_mask": torch.ones(2 * ROWS, WIDTH + 1, dtype=torch.long),
        "completion_mask": whole.long(),
        "ref_chosen_logps": reference[:ROWS],
        "ref_rejected_logps": reference[ROWS:],
    }


def trl_sums(batch: Batch, values: Tensor, ld_alpha: float | None) -> Tensor:
    """(2 · ROWS,) sums in TRL's order of addition, which is ours where LD-DPO is on."""
    if ld_alpha is None:
        return values.sum(dim=1)
    index = batch.mask.nonzero()[:, 0]
    return ld_dpo_sums(values[batch.mask], index, batch.row_of, ROWS, alpha=ld_alpha)


def ours(case: Case, batch: Batch) -> tuple[Tensor, Tensor]:
    """The same step by our losses: the loss () and its gradient by token."""
    logps = batch.logps.clone().requires_grad_()
    index = batch.mask.nonzero()[:, 0]
    n_tokens = batch.mask.sum(dim=1)
    both = lambda flat: torch.stack([flat[:ROWS], flat[ROWS:]], dim=1)  # noqa: E731
    given = Logps(
        both(trl_sums(batch, logps, case.ld_alpha)),
        both(trl_sums(batch, batch.reference, case.ld_alpha)),
        both(n_tokens),
        DIVERGENCES[case.divergence],  # pyright: ignore[reportArgumentType]
        0.5,
    )
    targets, weight = Targets(torch.ones(ROWS)), torch.ones(ROWS)
    if case.wpo:
        each = wpo_weights(logps[batch.mask], batch.log_p2[batch.mask], index, 2 * ROWS)
        weight = both(each).prod(dim=1)
    total = torch.zeros(())
    for name, share in case.mixture.items():
        loss = losses.get(LOSSES[name][0])
        params = loss.resolve(
            {**({"beta": BETA} if "beta" in loss.params else {}), **LOSSES[name][1]}
        )
        values = loss.function(given, targets, params=params)
        divisor = n_tokens[:ROWS].sum() if loss.per == "token" else ROWS
        total = total + share * (values * weight).sum() / divisor
    return total.detach(), torch.autograd.grad(total, logps)[0][batch.mask]


# ---- the cases -----------------------------------------------------------------------------------


def dpo_cases() -> Iterator[Case]:
    """Every loss × divergence that TRL accepts, with each modifier, and mixtures."""
    for name, divergence in itertools.product(LOSSES, DIVERGENCES):
        if divergence != "reverse_kl" and name not in TRL_DIVERGES:
            continue
        our = LOSSES[name][0]
        yield Case("DPOTrainer", {name: 1.0}, divergence, ours=our)
        for alpha in (0.0, 0.5, 1.0):
            # TRL's sft ignores ld_alpha; prefkit refuses the two together.
            if name != "sft":
                yield Case("DPOTrainer", {name: 1.0}, divergence, ld_alpha=alpha, ours=our)
        if not name.startswith("aot") and name not in ("sft", *WPO_FAILS):
            yield Case("DPOTrainer", {name: 1.0}, divergence, wpo=True, ours=our)
    for mixture in MIXTURES:
        our = " + ".join(LOSSES[name][0] for name in mixture)
        yield Case("DPOTrainer", mixture, ours=our)


def refused() -> list[tuple[str, str]]:
    """(loss, divergence) that TRL refuses by name."""
    pairs = itertools.product(LOSSES, list(DIVERGENCES)[1:])
    return [(name, divergence) for name, divergence in pairs if name not in TRL_DIVERGES]


def compare(case: Case, pairs: Iterator[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]):
    """The largest differences over some batches."""
    value = gradient = 0.0
    for (one, slope), (other, other_slope) in pairs:
        value = max(value, float((one - other).abs() / one.abs().clamp(min=1)))
        scale = slope.abs().max().clamp(min=1e-30)
        gradient = max(gradient, float((slope - other_slope).abs().max() / scale))
    return Outcome(case, value, gradient)


def dpo_outcome(trainer: Any, case: Case) -> Outcome:
    """Three batches of one case."""
    batches = [make_batch(seed) for seed in range(3)]
    return compare(case, ((theirs(trainer, case, b), ours(case, b)) for b in batches))


def dpo_trainer(model_folder: Path, work: Path, **config: Any) -> Any:
    """TRL's DPOTrainer on the tiny model."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    row = {"prompt": "The quick brown", "chosen": " fox jumps", "rejected": " dog"}
    return DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32),
        args=DPOConfig(
            output_dir=str(work), bf16=False, use_cpu=True, report_to=[],
            per_device_train_batch_size=2, gradient_checkpointing=False, **config,
        ),
        train_dataset=Dataset.from_list([row] * 2),
        processing_class=AutoTokenizer.from_pretrained(model_folder),
    )  # fmt: skip
