"""What KTO estimates its reference point z0 from: every row with an answer to another prompt.

Who lends to whom depends on the rows alone, so the reference log-probs can be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, cycle

from prefkit.core.errors import DataError
from prefkit.policy.trees import Branch, Tree
from prefkit.training.rows import Row, Rows


def with_mismatches(rows: Rows, limit: int, *, lenders: Sequence[Row] = ()) -> Rows:
    """Every row with an answer to another prompt as second branch, cut to ``limit`` tokens with its
    own prompt (arXiv 2402.01306, section 4.1).

    The answers to a prompt are lent to the next one. Rows of one prompt alone borrow from
    ``lenders``; DataError where these have no other prompt.
    """
    asked = _by_prompt(rows.rows)
    pools = [[rows.rows[i] for i in asked[prompt]] for prompt in asked]
    pools = [pools[-1], *pools[:-1]] if pools else []
    if len(asked) == 1:
        others = _by_prompt(lenders)
        given = chain.from_iterable(others[prompt] for prompt in others if prompt not in asked)
        pools = [[lenders[i] for i in given]]
    if not all(pools):
        raise DataError(
            "one prompt is not enough: the loss compares each answer with one to another prompt",
            hint="give rows of at least two prompts (raw text names none), or choose a paired loss",
        )
    mixed = list(rows.rows)
    for prompt, pool in zip(asked, pools, strict=True):
        for i, lender in zip(asked[prompt], cycle(pool), strict=False):
            mixed[i] = replace(mixed[i], tree=_lend(mixed[i].tree, lender.tree.branches[0], limit))
    return replace(rows, rows=tuple(mixed))


def _by_prompt(rows: Sequence[Row]) -> dict[bytes, list[int]]:
    """The rows of each prompt, in an order that is not theirs: prompts by tokens, rows by id."""
    found: dict[bytes, list[int]] = {}
    for i in sorted(range(len(rows)), key=lambda i: rows[i].id):
        found.setdefault(rows[i].tree.prompt.tobytes(), []).append(i)
    return dict(sorted(found.items()))


def _lend(tree: Tree, answer: Branch, limit: int) -> Tree:
    room = max(1, limit - len(tree.prompt))
    cut = Branch(answer.ids[:room], answer.scored[:room])
    return Tree(tree.prompt, (tree.branches[0], cut))
