"""From the answers of a prompt to comparisons: named policies, found by registration.

A policy is a plain function ``(prompt, completions, rng, *, pairs) -> [(one, other), …]``; it gets
answers that differ and are not empty, and says which pairs are worth a vote.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Protocol

from prefkit.core.records import Comparison, Completion, Prompt
from prefkit.core.registry import Registry
from prefkit.core.rng import derive_rng
from prefkit.generation.settings import GenerateSettings

Pair = tuple[Completion, Completion]


class Pairing(Protocol):
    """At most ``pairs`` pairs of the given answers."""

    def __call__(
        self, prompt: Prompt, completions: Sequence[Completion], rng: random.Random, *, pairs: int
    ) -> list[Pair]: ...


PAIRINGS: Registry[Pairing] = Registry("pairing", "prefkit.pairings")


@PAIRINGS.decorator("random")
def random_pairs(
    prompt: Prompt, completions: Sequence[Completion], rng: random.Random, *, pairs: int
) -> list[Pair]:
    """Pairs drawn without replacement, all equally likely."""
    every = list(combinations(completions, 2))
    return rng.sample(every, min(pairs, len(every)))


@PAIRINGS.decorator("most_different")
def most_different(
    prompt: Prompt, completions: Sequence[Completion], rng: random.Random, *, pairs: int
) -> list[Pair]:
    """The pairs with the least overlap of words; equal overlaps in random order."""
    every = list(combinations(completions, 2))
    rng.shuffle(every)
    return sorted(every, key=lambda pair: word_overlap(pair[0].text, pair[1].text))[:pairs]


def word_overlap(one: str, other: str) -> float:
    """Jaccard overlap of the two sets of lower-case words, in [0, 1]; 1 for two empty texts."""
    first, second = set(one.lower().split()), set(other.lower().split())
    union = first | second
    return len(first & second) / len(union) if union else 1.0


def pair(
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    settings: GenerateSettings,
    rng_seed: int,
    origin: str = "",
) -> tuple[list[Comparison], dict[str, int]]:
    """Comparisons in the order of the prompts, and what was left out.

    counts: unfinished (answers cut off by max_tokens, left out unless settings.unfinished is
    "keep"), empty (without text), identical (equal to an earlier one of their prompt, spaces at
    the ends aside), unpaired_prompts (fewer than two different answers left).
    """
    choose = PAIRINGS.get(settings.pairing)
    of_prompt: dict[str, list[Completion]] = {prompt.id: [] for prompt in prompts}
    for completion in completions:
        of_prompt[completion.prompt_id].append(completion)
    counts = Counter(unfinished=0, empty=0, identical=0, unpaired_prompts=0)
    keep_unfinished = settings.unfinished == "keep"
    comparisons: list[Comparison] = []
    for prompt in prompts:
        different = _different(of_prompt.pop(prompt.id, []), counts, keep_unfinished)
        if len(different) < 2:
            counts["unpaired_prompts"] += 1
            continue
        rng = derive_rng("pairing", rng_seed, prompt.id)
        for one, other in choose(prompt, different, rng, pairs=settings.pairs_per_prompt):
            comparisons.append(Comparison.make(prompt, one, other, origin=origin))
    return comparisons, dict(counts)


def _different(
    completions: Sequence[Completion], counts: Counter[str], keep_unfinished: bool
) -> list[Completion]:
    seen: set[str] = set()
    kept: list[Completion] = []
    for completion in completions:
        text = completion.text.strip()
        if completion.finish_reason == "length":
            counts["unfinished"] += 1
            if not keep_unfinished:
                continue
        if not text:
            counts["empty"] += 1
        elif text in seen:
            counts["identical"] += 1
        else:
            seen.add(text)
            kept.append(completion)
    return kept
