"""From dialogues to gradients of the weights: TRL 1.16.0's trainer beside our rows and log-probs.

Both read the same single-turn dialogues with their own code, run their own forward pass and head
on equal weights, and differentiate their own loss. The reference is another model than the policy.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from training.oracle.parity_grid import BETA, LOSSES
from training.oracle.parity_trajectories import TEMPLATE, noised

from prefkit.core.records import Message, Prompt
from prefkit.policy.layout import choose_layout
from prefkit.policy.logps import tree_logps
from prefkit.policy.template import encode_tree
from prefkit.policy.trees import Tree
from prefkit.training.losses import Logps, Targets, losses

DIALOGUES = [
    ("What is the sea?", "The sea is quick and clear.", "A dog."),
    ("Write one sentence about the moon.", "The moon.", "The lazy brown fox jumps over the sun."),
    ("Is the answer short?", "The answer is short.", "The answer is lazy."),
    ("The capital of France?", "What is the capital of France? The sun.", "A fox jumps."),
]


@pytest.fixture(scope="module")
def sides(trl, tiny_model_dir, tmp_path_factory):
    """TRL's trainer over DIALOGUES, and a copy of its two models for us."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    tokenizer.chat_template = TEMPLATE
    load = lambda: AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)  # noqa: E731
    policy, reference = noised(load(), 1), noised(load(), 2)
    own = copy.deepcopy(policy), copy.deepcopy(reference).requires_grad_(False)
    say = lambda role, text: [{"role": role, "content": text}]  # noqa: E731
    trainer = DPOTrainer(
        model=policy,
        ref_model=reference,
        args=DPOConfig(
            output_dir=str(tmp_path_factory.mktemp("end")), bf16=False, use_cpu=True,
            report_to=[], gradient_checkpointing=False, beta=BETA,
        ),
        train_dataset=Dataset.from_list(
            [
                {
                    "prompt": say("user", prompt),
                    "chosen": say("assistant", chosen),
                    "rejected": say("assistant", rejected),
                }
                for prompt, chosen, rejected in DIALOGUES
            ]
        ),
        processing_class=tokenizer,
    )  # fmt: skip
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(DIALOGUES))])
    trees = [
        encode_tree(
            tokenizer,
            Prompt.make([Message.of("user", p)]),
            [[Message.of("assistant", c)], [Message.of("assistant", r)]],
        )
        for p, c, r in DIALOGUES
    ]
    return trainer, batch, own, trees


def test_both_read_the_same_tokens_and_score_the_same_of_them(sides):
    _, batch, _, trees = sides
    for row, tree in enumerate(trees):
        for side, branch in enumerate(tree.branches):
            place = row + side * len(trees)
            width = int(batch["attention_mask"][place].sum())
            theirs = batch["input_ids"][place, :width].tolist()
            assert theirs == [*tree.prompt.tolist(), *branch.ids.tolist()]
            scored = batch["completion_mask"][place, :width].bool().tolist()
            assert scored == [False] * len(tree.prompt) + branch.scored.tolist()


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradients_of_the_weights_are_trls(sides, name):
    trainer, batch, (policy, reference), trees = sides
    ours_name, extra = LOSSES[name]
    trainer.loss_types, trainer.loss_weights = [name], [1.0]
    trainer.label_smoothing = extra.get("epsilon", 0.0)
    trainer.model.zero_grad()
    theirs = trainer._compute_loss(trainer.model, dict(batch), False)
    theirs.backward()
    policy.zero_grad()
    ours = _ours(ours_name, extra, policy, reference, trees)
    ours.backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    expected = dict(trainer.model.named_parameters())
    largest = max(float(weight.grad.abs().max()) for weight in expected.values())
    for key, weight in policy.named_parameters():
        apart = float((weight.grad - expected[key].grad).abs().max())
        assert apart <= 1e-5 * largest, (key, apart, largest)


def _ours(name: str, extra: dict, policy: Any, reference: Any, trees: list[Tree]) -> Tensor:
    loss = losses.get(name)
    layout = choose_layout(policy, longest=max(tree.longest for tree in trees))
    sums = [
        tree_logps(model, trees, layout=layout).sums().view(-1, 2) for model in (policy, reference)
    ]
    n_tokens = torch.tensor([[branch.n_scored for branch in tree.branches] for tree in trees])
    params = loss.resolve({**({"beta": BETA} if "beta" in loss.params else {}), **extra})
    value = loss.function(
        Logps(sums[0], sums[1].detach(), n_tokens), Targets(torch.ones(len(trees))), params=params
    )
    return value.sum() / (n_tokens[:, 0].sum() if loss.per == "token" else len(trees))
