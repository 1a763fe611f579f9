"""Where a trained model comes from: its base, its data, who judged them, and the settings.

A JSON value that lies beside the weights (prefkit.json) and is told in words by the model card.
People are counted, never named; machines that judged are named.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from prefkit.core.records import RaterKind, TrainRow
from prefkit.policy.resolve import ModelSource
from prefkit.training.adapter_settings import AdapterSettings

NAMED = 20
MACHINES = frozenset(get_args(RaterKind)) - {"human"}
EMBEDDED_ON_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"


def lineage(
    source: ModelSource,
    settings: AdapterSettings,
    *,
    data: Mapping[str, Any],
    run: str,
    start: str | None = None,
) -> dict[str, Any]:
    """The facts of one run. data: ``data_facts`` and what the trainer counted (digest, dropped).

    start: digest of the adapter that training started from, None for a new one.
    """
    return {
        "method": settings.method,
        "base": base_facts(source),
        "start": start,
        "run": run,
        "data": dict(data),
        "settings": settings.model_dump(mode="json"),
    }


def base_facts(source: ModelSource) -> dict[str, Any]:
    """Which model was the base; ``adapter_base.check_base`` reads it again."""
    return {
        "spec": source.spec,
        "kind": source.kind,
        "hub": hub_name(source),
        "revision": source.revision,
        "digest": source.digest,
        "weights": source.weights,
    }


def hub_name(source: ModelSource) -> str | None:
    """The base model's name on the Hub, None for a folder or a file of one's own."""
    if source.kind == "hub":
        return source.spec.partition("@")[0]
    return EMBEDDED_ON_HUB if source.kind == "embedded" else None


def base_name(source: ModelSource) -> str:
    """What loads the base model again on this machine: the Hub id, or the folder."""
    named = source.kind in ("hub", "memory")
    return source.spec.partition("@")[0] if named else str(source.path.resolve())


def data_facts(rows: Sequence[TrainRow]) -> dict[str, Any]:
    """Counts of what was learned from: prompts' sources, who answered, who judged and how.

    n_votes, raters: votes and distinct raters by kind (human, judge, reward, rule; other where a
    vote says something else), a vote that several rows carry once; judges: the names of machines;
    methods: rows by aggregation method and version; answers: rows by the digest of the model that
    wrote the chosen answer. Each holds the most frequent 20. Of a pair that was split into two
    answers, votes, method and writer count once.
    """
    sources, methods, answers = Counter[str](), Counter[str](), Counter[str]()
    n_votes, raters, seen = Counter[str](), dict[str, set[str]](), set[str]()
    for row, again in zip(rows, _seen_before(rows), strict=True):
        sources[row.prompt.source or "not named"] += 1
        if again:
            continue
        for vote in _votes(row.votes):
            known = None if vote.get("id") is None else str(vote["id"])
            if known in seen:
                continue
            seen.update([] if known is None else [known])
            kind = _kind(vote)
            n_votes[kind] += 1
            raters.setdefault(kind, set()).add(str(vote.get("rater", "")))
        evidence = _object(row.evidence)
        if evidence.get("method"):
            methods[f"{evidence['method']} {evidence.get('version', '')}".strip()] += 1
        rejected = row.target == "unpaired" and row.p < 0.5
        if evidence.get("model_chosen") and not rejected:
            answers[str(evidence["model_chosen"])] += 1
    machines = {name for kind in MACHINES for name in raters.get(kind, ())}
    return {
        "n_rows": len(rows),
        "n_prompts": len({row.prompt.id for row in rows}),
        "n_soft": sum(1 for row in rows if 0 < row.p < 1),
        "sources": _most(sources),
        "methods": _most(methods),
        "answers": _most(answers),
        "n_votes": _most(n_votes),
        "raters": {kind: len(names) for kind, names in sorted(raters.items())},
        "judges": sorted(machines)[:NAMED],
    }


def _most(counts: Counter[str]) -> dict[str, int]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return dict(ordered[:NAMED])


def _seen_before(rows: Sequence[TrainRow]) -> list[bool]:
    """Whether each row is an answer of a pair whose other answer came before it."""
    found: list[bool] = []
    pairs: dict[str, str] = {}
    for row in rows:
        # The same pair twice in the data is two: their answers have the same ids.
        found.append(bool(row.pair) and pairs.setdefault(row.pair, row.id) != row.id)
    return found


def _kind(vote: Mapping[str, Any]) -> str:
    """Whose vote it is. Votes are a user's data: an unknown kind may well be a person's."""
    kind = vote.get("kind", "human")
    return kind if kind in get_args(RaterKind) else "other"


def _votes(text: str | None) -> list[dict[str, Any]]:
    """The votes that are objects; rows.py has refused what is not JSON."""
    if not text:
        return []
    found = json.loads(text)
    return [vote for vote in found if isinstance(vote, dict)] if isinstance(found, list) else []


def _object(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    found = json.loads(text)
    return found if isinstance(found, dict) else {}
