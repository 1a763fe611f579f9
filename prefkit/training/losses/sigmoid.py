"""Sigmoid DPO on soft labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefkit.training.losses import Logps, Param, Targets, register_loss

if TYPE_CHECKING:
    from torch import Tensor


@register_loss(
    "sigmoid",
    paper="Rafailov et al. 2023, arXiv 2305.18290",
    equation="7; soft labels as in conservative DPO (Mitchell 2023), with p for each row",
    soft="cross-entropy with p; optimum βδ = logit p",
    stable=True,
    divergences=True,
    params={"beta": Param(0.1, "strength of the pull towards the reference", 1e-6, 1e3)},
)
def sigmoid(logps: Logps, targets: Targets, *, params: Mapping[str, float]) -> Tensor:
    """−p·log σ(βδ) − (1 − p)·log σ(−βδ), δ = log-ratio of chosen minus that of rejected.

    Shape (rows,). ln 2 at δ = 0 whatever p; its optimum is βδ = logit p; p = 1 is eq. 7.
    """
    from torch.nn.functional import logsigmoid

    ratios = logps.ratios()
    logit = params["beta"] * (ratios[:, 0] - ratios[:, 1])
    return -targets.p * logsigmoid(logit) - (1 - targets.p) * logsigmoid(-logit)
