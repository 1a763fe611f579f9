"""Where the time of prefkit's step goes: packs of one size forward and backward, and a profile.

    python -m benchmarks.train.step_costs [--budget 512] [--dtype float32] [--checkpointing]
                                          [--profile] [--pairs 16]

One configuration a process, so that the peak memory is its own. Prints one JSON object. Seconds
are of processor time: with --threads 1 they hardly change when the machine has other work.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile

from benchmarks.train.pairs import make_pairs
from prefkit.policy.layout import choose_layout, plan_packs
from prefkit.policy.load import load_policy
from prefkit.policy.logps import tree_logps
from prefkit.policy.trees import Branch, Tree
from prefkit.training.scorer import checkpoint_activations

BETA = 0.1
SIDES = ("chosen", "rejected")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    policy = load_policy(options.model, dtype=options.dtype)
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(policy.model, config, autocast_adapter_dtype=False)
    if options.checkpointing:
        checkpoint_activations(model)
    trees = make_trees(policy.tokenizer, options)
    packs = plan_packs([tree.n_tokens for tree in trees], options.budget)
    layout = choose_layout(model, longest=max(tree.longest for tree in trees))
    model.train()
    step = Step(model, trees, packs, layout)
    step.run()  # warm-up
    result = {
        "budget": options.budget,
        "dtype": options.dtype,
        "checkpointing": options.checkpointing,
        "layout": layout.reason,
        "pairs": len(trees),
        "packs": [sum(trees[i].n_tokens for i in pack) for pack in packs],
        **step.timed(),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    if options.profile:
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as record:
            step.run()
        table = record.key_averages().table(sort_by="self_cpu_time_total", row_limit=25)
        print(table)
    print(json.dumps(result))


class Step:
    """The packs of one optimiser step over a model."""

    def __init__(self, model: Any, trees: list[Tree], packs: list[list[int]], layout: Any) -> None:
        self.model, self.trees, self.packs, self.layout = model, trees, packs, layout
        self.seconds = {"reference": 0.0, "forward": 0.0, "backward": 0.0}

    def run(self) -> None:
        """Reference, forward and backward of every pack; what each took is added up."""
        for pack in self.packs:
            trees = [self.trees[i] for i in pack]
            started = time.process_time()
            with torch.no_grad(), self.model.disable_adapter():
                reference = tree_logps(self.model, trees, layout=self.layout).sums()
            scored = time.process_time()
            sums = tree_logps(self.model, trees, layout=self.layout).sums() - reference
            ratios = sums.view(-1, 2)
            loss = -torch.nn.functional.logsigmoid(BETA * (ratios[:, 0] - ratios[:, 1])).sum()
            forward = time.process_time()
            loss.backward()
            self.seconds["reference"] += scored - started
            self.seconds["forward"] += forward - scored
            self.seconds["backward"] += time.process_time() - forward

    def timed(self) -> dict[str, Any]:
        """Seconds of one more run by phase, and pairs per second with and without reference."""
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        before = os.times().system
        self.run()
        step = self.seconds["forward"] + self.seconds["backward"]
        return {
            "seconds": dict(self.seconds),
            "pairs_per_s": len(self.trees) / (step + self.seconds["reference"]),
            "pairs_per_s_reference_kept": len(self.trees) / step,
            "system_seconds": os.times().system - before,
        }


def make_trees(tokenizer: Any, options: argparse.Namespace) -> list[Tree]:
    """The first pairs of the benchmark as trees; every answer ends its turn."""

    def ids(text: str) -> np.ndarray:
        return np.array(tokenizer(text, add_special_tokens=False)["input_ids"], np.int32)

    trees = []
    for row in make_pairs(tokenizer, options.data).rows[: options.pairs]:
        asked = tokenizer.apply_chat_template(
            row["prompt"], tokenize=False, add_generation_prompt=True
        )
        answers = [ids(row[side][0]["content"] + tokenizer.eos_token) for side in SIDES]
        branches = tuple(Branch(answer, np.ones(len(answer), np.bool_)) for answer in answers)
        trees.append(Tree(ids(asked), branches))
    return trees


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--budget", type=int, default=512, help="tokens of a pack")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--data", type=Path, default=os.environ.get("PREFKIT_REAL_DATA"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
