"""Preference pairs with a rule that can be learned: the better answer ends in a question mark."""

from __future__ import annotations

import random

from prefkit.core.records import Example, Message, Prompt

WORDS = "fox dog sea sun moon quick lazy brown short clear answer sentence".split()  # noqa: SIM905


def make_pair(rng: random.Random, *, p: float = 1.0, weight: float = 1.0) -> Example:
    """A pair whose chosen answer ends in a question mark and whose rejected one does not."""
    prompt = Prompt.make([Message.of("user", " ".join(rng.choices(WORDS, k=rng.randint(2, 9))))])
    chosen = " ".join(rng.choices(WORDS, k=rng.randint(1, 9))) + "?"
    rejected = " ".join(rng.choices(WORDS, k=rng.randint(1, 9))) + "."
    example, _ = Example.make(
        prompt,
        [Message.of("assistant", chosen)],
        [Message.of("assistant", rejected)],
        p=p,
        weight=weight,
    )
    return example
