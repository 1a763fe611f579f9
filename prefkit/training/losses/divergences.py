"""f-divergences: what a log-ratio counts for when the penalty is not the reverse KL.

Wang et al. 2023, "Beyond Reverse KL", arXiv 2309.16240: DPO's log(π/π_ref) becomes f′(π/π_ref).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

from prefkit.training.losses import Divergence

if TYPE_CHECKING:
    from torch import Tensor

DIVERGENCES: tuple[str, ...] = get_args(Divergence)

# exp(40) squared is still a number in fp32, so that a squared loss of such scores stays finite.
# The gradient of an answer beyond it is zero; TRL clamps "alpha" at 80 and forward_kl not at all.
LARGEST_EXPONENT = 40.0


def scores(ratios: Tensor, divergence: Divergence, alpha: float) -> Tensor:
    """f′(u) for u = exp(ratios): the shape of ``ratios``; 0 where policy and reference agree.

    reverse_kl: log u. forward_kl: 1 − 1/u. js: log(2u / (1 + u)). alpha: (u^(α−1) − 1)/(α − 1),
    TRL's α, which is 1 − α of the paper: α → 1 is reverse_kl, α = 0 is forward_kl.
    """
    from torch.nn.functional import logsigmoid

    match divergence:
        case "reverse_kl":
            return ratios
        case "forward_kl":
            return -(-ratios).clamp(max=LARGEST_EXPONENT).expm1()
        case "js":
            return math.log(2) + logsigmoid(ratios)
        case "alpha":
            order = alpha - 1
            # Near 1 the quotient is 0/0; its limit is the reverse KL.
            if abs(order) < 1e-6:
                return ratios
            return (order * ratios).clamp(max=LARGEST_EXPONENT).expm1() / order
