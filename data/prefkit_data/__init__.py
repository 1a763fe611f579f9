"""Prompts that ship with prefkit, read from the installed package; provenance in data/README.md."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Literal


def demo_prompts(split: Literal["train", "heldout"] | None = None) -> list[dict[str, Any]]:
    """The demo's prompts of one split, or all of them, in file order.

    Each is {"prompt": text, "tags": {"format": …, "topic": …, "split": …}}. The splits share no
    topic. format is max_words:N, one_sentence or bullets:K, as the rule ``format`` reads it.
    """
    text = (files(__name__) / "demo_prompts.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.split("\n") if line]
    return [row for row in rows if split is None or row["tags"]["split"] == split]
