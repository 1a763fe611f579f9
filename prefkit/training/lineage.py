"""Where a trained model comes from: its base, its data, who judged them, and the settings.

A JSON value that lies beside the weights (prefkit.json) and is told in words by the model card.
People are counted, never named; machines that judged are named.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from prefkit.core.records import TrainRow
from prefkit.policy.resolve import ModelSource
from prefkit.training.adapter_settings import AdapterSettings

FACTS = "prefkit.json"
NAMED = 20
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
        "base": {
            "spec": source.spec,
            "kind": source.kind,
            "hub": hub_name(source),
            "revision": source.revision,
            "digest": source.digest,
        },
        "start": start,
        "run": run,
        "data": dict(data),
        "settings": settings.model_dump(mode="json"),
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

    n_votes, raters: votes and distinct raters by kind (human, judge, reward, rule), a vote that
    several rows carry once; judges: the names of raters that are no people; methods: rows by
    aggregation method and version; answers: rows by the digest of the model that wrote the chosen
    answer. Each holds the most frequent 20.
    """
    sources, methods, answers = Counter[str](), Counter[str](), Counter[str]()
    n_votes, raters, seen = Counter[str](), dict[str, set[str]](), set[str]()
    for row in rows:
        sources[row.prompt.source or "not named"] += 1
        for vote in _votes(row.votes):
            if vote.get("id") in seen:
                continue
            seen.update([vote["id"]] if "id" in vote else [])
            kind = str(vote.get("kind", "human"))
            n_votes[kind] += 1
            raters.setdefault(kind, set()).add(str(vote.get("rater", "")))
        evidence = _object(row.evidence)
        if evidence.get("method"):
            methods[f"{evidence['method']} {evidence.get('version', '')}".strip()] += 1
        if evidence.get("model_chosen"):
            answers[str(evidence["model_chosen"])] += 1
    machines = {name for kind, names in raters.items() if kind != "human" for name in names}
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
