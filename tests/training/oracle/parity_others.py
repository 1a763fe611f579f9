"""Parity with TRL's other trainers: CPO, SimPO, ORPO, KTO and the reward model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from training.oracle.parity_grid import BETA, Case, Outcome, compare, forward

from prefkit.training.losses import Logps, Targets, losses

ROWS = 6
Sides = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


def sums(seed: int, rows: int = ROWS) -> tuple[Tensor, Tensor, Tensor]:
    """Policy and reference sums (rows, 2) and lengths (rows, 2)."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 12, (rows, 2), generator=generator)
    policy = -(0.2 + 2 * torch.rand(rows, 2, generator=generator)) * lengths
    return policy, policy + torch.randn(rows, 2, generator=generator), lengths


def ours(
    name: str,
    policy: Tensor,
    reference: Tensor | None,
    lengths: Tensor,
    targets: Targets,
    **params: float,
) -> Tensor:
    """Mean loss of our side."""
    loss = losses.get(name)
    given = Logps(policy, reference, lengths)
    return loss.function(given, targets, params=loss.resolve(params)).mean()


def both(theirs: Any, mine: Any, start: Tensor) -> Sides:
    """(value, gradient) of each side at ``start``."""
    found = []
    for side in (theirs, mine):
        at = start.clone().requires_grad_()
        value = side(at)
        found.append((value.detach(), torch.autograd.grad(value, at)[0]))
    return found[0], found[1]


# ---- CPO, SimPO, ORPO ----------------------------------------------------------------------------


def _cpo(seed: int, kind: str, beta: float, gamma: float, epsilon: float) -> Sides:
    from trl.experimental.cpo import CPOTrainer

    policy, _, lengths = sums(seed)
    trainer = SimpleNamespace(
        alpha=0.0, beta=beta, loss_type=kind, simpo_gamma=gamma, label_smoothing=epsilon,
        accelerator=SimpleNamespace(device="cpu"),
    )  # fmt: skip

    def theirs(at: Tensor) -> Tensor:
        values = at / lengths if kind == "simpo" else at
        return CPOTrainer.cpo_loss(trainer, values[:, 0], values[:, 1])[0].mean()

    def mine(at: Tensor) -> Tensor:
        targets = Targets(torch.full((ROWS,), 1 - epsilon))
        extra = {"gamma": gamma} if kind == "simpo" else {"alpha": 0.0}
        name = "simpo" if kind == "simpo" else "cpo"
        return ours(name, at, None, lengths, targets, beta=beta, **extra)

    return both(theirs, mine, policy)


def _orpo(seed: int) -> Sides:
    from trl.experimental.orpo import ORPOTrainer

    policy, _, lengths = sums(seed)
    targets = Targets(torch.ones(ROWS))

    def theirs(at: Tensor) -> Tensor:
        means = at / lengths
        found = ORPOTrainer.odds_ratio_loss(
            SimpleNamespace(beta=BETA, accelerator=SimpleNamespace(device="cpu")),
            means[:, 0],
            means[:, 1],
        )
        # TRL adds its NLL elsewhere, over prompt and answer; ours is in the loss.
        return (-found[0]).mean() - means[:, 0].mean()

    return both(theirs, lambda at: ours("orpo", at, None, lengths, targets, beta=BETA), policy)


# ---- KTO and the reward model --------------------------------------------------------------------


def _kto(trainer: Any, seed: int, kind: str) -> Sides:
    policy, reference, lengths = sums(seed)
    labels = torch.tensor([True, False, True, True, False, False])
    # Desirable and undesirable answers, z0 above and below zero.
    shift = 1.5 if seed % 2 else -1.5
    policy[:, 1] = (
        reference[:, 1] + shift + torch.randn(ROWS, generator=torch.Generator().manual_seed(seed))
    )
    weights = {"desirable": 1.3, "undesirable": 0.7}
    trainer.loss_type, trainer.calculate_KL, trainer.beta = kind, kind == "kto", BETA
    trainer.desirable_weight, trainer.undesirable_weight = 1.3, 0.7
    trainer.precompute_ref_logps = True
    ids = torch.zeros(ROWS, 2, dtype=torch.long)
    scored = torch.tensor([[0, 1]] * ROWS)
    batch = {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": scored,
        "KL_input_ids": ids, "KL_attention_mask": torch.ones_like(ids),
        "KL_completion_mask": scored, "label": labels,
        "ref_logps": reference[:, 0], "ref_KL_logps": reference[:, 1],
    }  # fmt: skip

    def theirs(at: Tensor) -> Tensor:
        calls = [at[:, :1]] if kind != "kto" else [at[:, 1:].detach(), at[:, :1]]
        filler = torch.zeros(ROWS, 1)
        return trainer._compute_loss(lambda **_: forward(calls.pop(0), filler)(), batch, False)

    def mine(at: Tensor) -> Tensor:
        return ours(kind, at, reference, lengths, Targets(labels.float()), beta=BETA, **weights)

    return both(theirs, mine, policy)


def kto_trainer(model_folder: Path, work: Path) -> Any:
    """TRL's KTOTrainer on the tiny model."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import KTOConfig, KTOTrainer

    row = {"prompt": "The quick brown", "completion": " fox jumps"}
    return KTOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32),
        args=KTOConfig(
            output_dir=str(work), bf16=False, use_cpu=True, report_to=[],
            per_device_train_batch_size=2, gradient_checkpointing=False,
            train_sampling_strategy="sequential",
        ),
        train_dataset=Dataset.from_list([{**row, "label": flag} for flag in (True, False)] * 2),
        processing_class=AutoTokenizer.from_pretrained(model_folder),
    )  # fmt: skip


def _reward(seed: int, *, margin: bool, centre: float | None) -> Sides:
    from trl import RewardTrainer

    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randn(ROWS, 2, generator=generator)
    margins = torch.randn(ROWS, generator=generator)
    silent = SimpleNamespace(
        model=SimpleNamespace(training=False),
        args=SimpleNamespace(center_rewards_coefficient=centre),
        accelerator=SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x),
        _metrics={
            "eval": {
                key: [] for key in ("min_reward", "mean_reward", "max_reward", "accuracy", "margin")
            }
        },
        _total_train_tokens=0,
    )

    def theirs(at: Tensor) -> Tensor:
        inputs: dict[str, Any] = {"margin": margins} if margin else {}
        logits = torch.cat([at[:, 0], at[:, 1]])[:, None]
        return RewardTrainer.compute_loss(
            silent, lambda **_: SimpleNamespace(logits=logits), inputs
        )

    def mine(at: Tensor) -> Tensor:
        return ours(
            "bradley_terry", at, None, torch.ones(ROWS, 2).long(),
            Targets(torch.ones(ROWS), margins), margin=float(margin), centre=centre or 0.0,
        )  # fmt: skip

    return both(theirs, mine, rewards)


# ---- the cases -----------------------------------------------------------------------------------


def outcomes(kto: Any) -> Iterator[Outcome]:
    """Every case of the other trainers, three batches each."""
    cpo = "CPOTrainer"
    table = [
        (Case(cpo, {"sigmoid": 1}, ours="cpo, alpha=0"), lambda s: _cpo(s, "sigmoid", BETA, 0, 0)),
        (
            Case(cpo, {"sigmoid, label_smoothing=0.1": 1}, ours="cpo, alpha=0, p=0.9"),
            lambda s: _cpo(s, "sigmoid", BETA, 0, 0.1),
        ),
        (Case(cpo, {"simpo": 1}, ours="simpo"), lambda s: _cpo(s, "simpo", 2.0, 1.0, 0)),
        (Case("ORPOTrainer", {"odds ratio": 1}, ours="orpo"), _orpo),
        (Case("KTOTrainer", {"kto": 1}, ours="kto"), lambda s: _kto(kto, s, "kto")),
        (
            Case("KTOTrainer", {"apo_zero_unpaired": 1}, ours="apo_zero_unpaired"),
            lambda s: _kto(kto, s, "apo_zero_unpaired"),
        ),
        (
            Case("RewardTrainer", {"Bradley-Terry": 1}, ours="bradley_terry"),
            lambda s: _reward(s, margin=False, centre=None),
        ),
        (
            Case(
                "RewardTrainer", {"margin, center_rewards_coefficient=0.1": 1}, ours="bradley_terry"
            ),
            lambda s: _reward(s, margin=True, centre=0.1),
        ),
    ]
    for case, sides in table:
        yield compare(case, (sides(seed) for seed in range(4)))
