"""Write docs/losses.md from the registry of losses.

.venv/bin/python tools/loss_page.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from prefkit.training.losses import Loss, losses

PAGE = Path(__file__).resolve().parent.parent / "docs" / "losses.md"
HEAD = """# Losses

Written by `python tools/loss_page.py` from what each loss registered; a test holds the two equal.

`loss: NAME` chooses one, `loss: {NAME: weight, …}` a weighted mixture, `loss_params` sets
parameters. p = P(first answer wins) is read row by row. Where a loss's paper has no soft form, p
stands for a label drawn from it: the loss is the mean p·ℓ(first wins) + (1 − p)·ℓ(second wins).
With p = 1 every loss is its paper's but for the departures named below.

- **Answers**: *pair* (chosen, rejected), *unpaired* (one answer, p = P(desirable)), *ranking* (best
  first, lists of unequal length), *demonstration* (one answer). Of several the data decide; pairs
  become what a loss takes, with their p ([data](data.md)).
- **Reference**: whether log-probs of a reference model are needed.
- **f-div.**: whether `divergence` (reverse_kl, forward_kl, js, alpha) changes it. The partition
  function of other divergences cancels only in a difference of two answers.
- **Step**: a loss that *couples* rows sees all rows of the optimiser step at once; *tokens* means
  that the step is a mean over tokens and not over rows.
- **margin**: a row's `margin` is taken off the logit, times this parameter. It is 0 by default but
  in `odpo`: the margins that prefkit's aggregators write are logit p, which p already says.
- **Status**: a *stable* loss keeps its name, parameters and values; a *reference* loss is tested as
  hard, but may follow its paper's authors.
- β means something else in each family: per answer in nats, or, where log-probs are means over
  tokens (`sigmoid_norm`, `ipo_mean`, `simpo`), per token and far larger.

| Loss | Answers | Reference | f-div. | Step | Status | Parameters: default (range) |
|---|---|---|---|---|---|---|
"""
ALSO = """
`wpo` (Zhou et al. 2024, arXiv 2406.11827, eq. 2) multiplies a row's loss by how likely its answers
are under the policy, without gradient; `ld_alpha` (Liu et al. 2024, arXiv 2409.06411) counts the
tokens past the shorter answer's length that much, in policy and reference alike.

## Where each comes from and what it does with a p between 0 and 1
"""


def page() -> str:
    """The whole page."""
    found = [loss for _, loss in losses]
    rows = "".join(f"| {' | '.join(_cells(loss))} |\n" for loss in found)
    return HEAD + rows + ALSO + "".join(_section(loss) for loss in found)


def _cells(loss: Loss) -> list[str]:
    step = "couples rows" if loss.couples_rows else "tokens" if loss.per == "token" else ""
    params = "; ".join(f"`{k}` {p.default:g} ({p.range})" for k, p in loss.params.items())
    return [
        f"[`{loss.name}`](#{loss.name})",
        ", ".join(loss.targets),
        "rewards" if loss.rewards else "yes" if loss.needs_reference else "no",
        "yes" if loss.divergences else "no",
        step,
        "stable" if loss.stable else "reference",
        params or "none",
    ]


def _section(loss: Loss) -> str:
    paragraphs = [" ".join(text.split()) for text in (loss.function.__doc__ or "").split("\n\n")]
    lines = [
        f"\n### {loss.name}\n\n",
        *(f"{text.replace('``', '`')}\n\n" for text in paragraphs if text),
        f"- Paper: {loss.paper}. Equation: {loss.equation}.\n",
        f"- Soft: {loss.soft}.\n" if loss.soft else f"- p must be 0 or 1: {loss.hard}.\n",
    ]
    lines += [f"- `{key}`: {param.about}.\n" for key, param in loss.params.items()]
    return "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE.name}: {len(losses.names())} losses\n")
