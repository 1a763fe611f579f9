"""Both answers of a pair behind one prompt, for the loop until it has moved to tree_logps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from prefkit.policy.logps import tree_logps, tree_of
from prefkit.policy.packing import Layout
from prefkit.policy.template import TokenRow


def pair_logps(model: Any, pairs: Sequence[tuple[TokenRow, TokenRow]], *, pad_id: int) -> Tensor:
    """Summed log-probs of both answers of each pair: (len(pairs), 2) fp32, in nats."""
    trees = [tree_of(row) for pair in pairs for row in pair]
    return tree_logps(model, trees, layout=Layout("padded", "sdpa", "")).sums().view(-1, 2)
