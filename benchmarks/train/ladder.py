"""Where prefkit's speed on a GPU comes from: one gain after another, on the same pairs.

    python ladder.py JOB.json       a process of its own; the last line of stdout is JSON

Each rung keeps what the rungs before it gained:
  naive       a row an answer, padded, all logits, metrics copied to the host in every micro-batch,
              the reference scored inside the step
  head        only what predicts an answer meets the head, in tiles
  no waiting  metrics stay on the device until the step is over
  packing     rows are packed to a number of tokens instead of padded
  sharing     the two answers to a prompt share it
  store       the reference is kept: no pass over it
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.train.verdict import losses_agree
from prefkit.policy.layout import Layout, choose_layout, plan_packs
from prefkit.policy.logps import tree_logps
from prefkit.policy.trees import Branch, Tree

PADDED = Layout("padded", "sdpa", "")


@dataclass(frozen=True, slots=True)
class Rung:
    """What a rung has gained."""

    name: str
    fused_head: bool = False
    no_waiting: bool = False
    packing: bool = False
    sharing: bool = False
    store: bool = False


RUNGS = (
    Rung("naive"),
    Rung("head", fused_head=True),
    Rung("no waiting", fused_head=True, no_waiting=True),
    Rung("packing", fused_head=True, no_waiting=True, packing=True),
    Rung("sharing", fused_head=True, no_waiting=True, packing=True, sharing=True),
    Rung("store", fused_head=True, no_waiting=True, packing=True, sharing=True, store=True),
)


def main(job: dict[str, Any]) -> list[dict[str, Any]]:
    """A line of figures for every rung that fits in memory."""
    from prefkit.policy.load import attach_adapter, load_policy

    policy = load_policy(job["model"], dtype=job["dtype"], device=job["device"])
    model = attach_adapter(policy.model, Path(job["adapter"]), trainable=True)
    if job["checkpointing"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    unlike_the_reference(model)
    trees = read_trees(policy.tokenizer, Path(job["pairs"]))
    shared = choose_layout(model, longest=max(tree.longest for tree in trees))
    kernel = policy.model.config._attn_implementation
    lines = []
    for rung in RUNGS:
        # choose_layout switches a model on CUDA to FlexAttention, which only packed rows need.
        policy.model.set_attn_implementation(kernel if rung.packing else "sdpa")
        gc.collect()
        if job["device"] == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            lines.append(measured(model, trees, rung, shared, job))
        except torch.OutOfMemoryError:
            lines.append({"rung": rung.name, "ended": "out of memory"})
        model.zero_grad(set_to_none=True)
    first = lines[0].get("losses")
    for line in lines:
        line["losses_agree"] = bool(first) and losses_agree(line.get("losses", ()), first)
    return lines


def unlike_the_reference(model: Any) -> None:
    """Move the adapter off its start, where the loss of every rung would be ln 2."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.copy_(torch.randn(value.shape, generator=draw) * 0.02)


def measured(
    model: Any, trees: list[Tree], rung: Rung, shared: Layout, job: dict[str, Any]
) -> dict[str, Any]:
    """The median step of a rung: seconds, pairs and TRL-equivalent tokens a second, peak, loss."""
    size = job["batch_size"]
    steps = [trees[i : i + size] for i in range(0, len(trees), size)]
    seconds, losses = [], []
    for step in steps[: job["steps"]]:
        kept = None
        if rung.store:  # scored before the clock starts: that is what a store is for
            kept = [scored(model, pack, rung, shared, off=True) for pack in packs(step, rung, job)]
        wait(job)
        started = time.perf_counter()
        losses.append(one_step(model, step, rung, shared, job, kept))
        wait(job)
        seconds.append(time.perf_counter() - started)
    per_step = median(seconds[job["warm_up"] :])
    tokens = sum(2 * len(t.prompt) + sum(len(b.ids) for b in t.branches) for t in trees)
    peak = torch.cuda.max_memory_allocated() if job["device"] == "cuda" else None
    return {
        "rung": rung.name,
        "seconds": per_step,
        "pairs_per_s": size / per_step,
        "equivalent_tokens_per_s": size / per_step * tokens / len(trees),
        "peak_bytes": peak,
        "losses": losses,
    }


def one_step(
    model: Any,
    trees: list[Tree],
    rung: Rung,
    shared: Layout,
    job: dict[str, Any],
    kept: list[Tensor] | None,
) -> float:
    """Gradient of the mean sigmoid loss over ``trees``; its value. No optimiser: it is alike."""
    model.zero_grad(set_to_none=True)
    logged: list[Any] = []
    for index, pack in enumerate(packs(trees, rung, job)):
        reference = kept[index] if kept else scored(model, pack, rung, shared, off=True)
        policy = scored(model, pack, rung, shared, off=False)
        ratios = (policy - reference).view(-1, 2)
        delta = job["beta"] * (ratios[:, 0] - ratios[:, 1])
        loss = -torch.nn.functional.logsigmoid(delta).sum() / len(trees)
        loss.backward()
        facts = (loss, policy.mean(), reference.mean(), ratios.mean(), (delta > 0).float().mean())
        logged.append([float(v) for v in facts] if not rung.no_waiting else loss.detach())
    return sum(float(value if rung.no_waiting else value[0]) for value in logged)


def packs(trees: list[Tree], rung: Rung, job: dict[str, Any]) -> list[list[Tree]]:
    """What goes through the model at once: whole pairs always, since the loss takes both sides."""
    if not rung.packing:
        size = job["micro_batch"]
        return [trees[i : i + size] for i in range(0, len(trees), size)]
    extra = 0 if rung.sharing else 1
    sizes = [tree.n_tokens + extra * len(tree.prompt) for tree in trees]
    return [[trees[i] for i in pack] for pack in plan_packs(sizes, job["tokens_at_once"])]


def scored(model: Any, trees: list[Tree], rung: Rung, shared: Layout, *, off: bool) -> Tensor:
    """(2 · pairs,) log-probs of the answers; ``off`` is the model without adapter and gradient."""
    if off:
        with torch.no_grad(), model.disable_adapter():
            return scored(model, trees, rung, shared, off=False).detach()
    if not rung.fused_head:
        return naive_sums(model, trees)
    if not rung.sharing:
        trees = [Tree(tree.prompt, (branch,)) for tree in trees for branch in tree.branches]
    return tree_logps(model, trees, layout=shared if rung.packing else PADDED).sums()


def naive_sums(model: Any, trees: Sequence[Tree]) -> Tensor:
    """The same log-probs from all logits of padded rows."""
    device = next(model.parameters()).device
    rows = [(tree.prompt, branch.ids) for tree in trees for branch in tree.branches]
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = np.zeros((len(rows), width), np.int64)
    mask, answers = np.zeros_like(ids), np.zeros_like(ids)
    for i, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[i, :end] = np.concatenate([prompt, answer])
        mask[i, :end] = 1
        answers[i, len(prompt) : end] = 1
    tokens, there, answer = (torch.from_numpy(a).to(device) for a in (ids, mask, answers))
    # Masks of padded rows are the model's own business here; flex is for trees.
    logits = model(input_ids=tokens, attention_mask=there, use_cache=False).logits
    found = logits[:, :-1].float().log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    return (found * answer[:, 1:]).sum(1)


def read_trees(tokenizer: Any, path: Path) -> list[Tree]:
    """The pairs of the job as trees; every answer ends its turn."""

    def ids(text: str) -> np.ndarray:
        return np.array(tokenizer(text, add_special_tokens=False)["input_ids"], np.int32)

    trees = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        asked = tokenizer.apply_chat_template(
            row["prompt"], tokenize=False, add_generation_prompt=True
        )
        answers = [
            ids(f"{row[side][0]['content']} {tokenizer.eos_token}")
            for side in ("chosen", "rejected")
        ]
        branches = tuple(Branch(answer, np.ones(len(answer), np.bool_)) for answer in answers)
        trees.append(Tree(ids(asked), branches))
    return trees


def wait(job: dict[str, Any]) -> None:
    """Until the device is idle."""
    if job["device"] == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
