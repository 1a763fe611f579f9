"""The loss of a reward model: Bradley-Terry on two rewards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefkit.training.losses import Logps, Param, Targets, register_loss
from prefkit.training.losses.pairs import MARGIN, cross_entropy, margins

if TYPE_CHECKING:
    from torch import Tensor


@register_loss(
    "bradley_terry",
    paper="Ouyang et al. 2022, arXiv 2203.02155; margin: Touvron et al. 2023 (Llama 2), "
    "arXiv 2307.09288; centring: Eisenstein et al. 2023, arXiv 2312.09244",
    equation="1; 2 of Llama 2 with a margin",
    soft="cross-entropy with p; least where the rewards differ by logit p",
    needs_reference=False,
    rewards=True,
    stable=True,
    params={
        "margin": MARGIN,
        "centre": Param(0.0, "weight of (r_w + r_l)², which keeps rewards about 0", 0.0, 1e3),
    },
)
def bradley_terry(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """−p·log σ(r_1 − r_2 − m) − (1 − p)·log σ(−(r_1 − r_2 − m)) + c·(r_1 + r_2)²: (rows,).

    ``logps.policy`` (rows, 2) holds the rewards of the two answers.
    """
    rewards = logps.policy
    z = rewards[:, 0] - rewards[:, 1] - margins(targets, params)
    centring = params["centre"] * (rewards[:, 0] + rewards[:, 1]) ** 2
    return cross_entropy(z, targets.p) + centring
