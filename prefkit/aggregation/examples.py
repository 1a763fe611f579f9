"""Beliefs about comparisons → training pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from prefkit.core.records import Comparison, Example, Preference


def build_examples(
    comparisons: Sequence[Comparison], preferences: Sequence[Preference]
) -> tuple[list[Example], dict[str, int]]:
    """One Example a preference, and the counts.

    flipped: p_a < 0.5, so b became chosen (the margin changed its sign). ties: p = 0.5 exactly;
    a stays chosen. without_comparison: preferences whose comparison is not given, left out.
    without_preference: comparisons nobody voted on. evidence is a JSON object with the
    comparison, the models that wrote both answers, the method and its votes' number.
    """
    by_id = {comparison.id: comparison for comparison in comparisons}
    examples: list[Example] = []
    counts = {"preferences": len(preferences), "flipped": 0, "ties": 0, "without_comparison": 0}
    for preference in preferences:
        comparison = by_id.get(preference.comparison_id)
        if comparison is None:
            counts["without_comparison"] += 1
            continue
        example, flipped = build_example(comparison, preference)
        examples.append(example)
        counts["flipped"] += flipped
        counts["ties"] += example.p == 0.5
    counts["examples"] = len(examples)
    heard = {preference.comparison_id for preference in preferences}
    counts["without_preference"] = len(by_id.keys() - heard)
    return examples, counts


def build_example(comparison: Comparison, preference: Preference) -> tuple[Example, bool]:
    """The pair of one preference, and whether b is the chosen side."""
    flipped = preference.p_a < 0.5
    chosen, rejected = comparison.a, comparison.b
    if flipped:
        chosen, rejected = rejected, chosen
    evidence = {
        "comparison": comparison.id,
        # The votes say a and b; this says which of them the example's chosen side is.
        "chosen_slot": "b" if flipped else "a",
        "origin": comparison.origin,
        "model_chosen": chosen.model,
        "model_rejected": rejected.model,
        "method": preference.method,
        "version": preference.version,
        "n_votes": preference.n_votes,
        "disagreement": preference.disagreement,
    }
    return Example.make(
        comparison.prompt,
        comparison.a.messages,
        comparison.b.messages,
        p=preference.p_a,
        weight=preference.weight,
        margin=preference.margin,
        votes=preference.votes,
        tags=comparison.prompt.tags,
        evidence=json.dumps(evidence, ensure_ascii=False),
    )
