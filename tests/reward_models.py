"""Reward models for tests: dialogues as trees, and what transformers itself makes of them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from planted_pairs import WORDS
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from prefkit.core.records import Message, Prompt
from prefkit.policy.load import Policy
from prefkit.policy.rewards import load_reward_model
from prefkit.policy.template import Exchange, encode_trees
from prefkit.policy.trees import Tree


def exchanges(n: int, *, n_answers: int = 3, seed: int = 0) -> list[Exchange]:
    """``n`` prompts with ``n_answers`` answers each, of different length."""
    draw = random.Random(seed)

    def text(most: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, most)))

    made: list[Exchange] = []
    for _ in range(n):
        prompt = Prompt.make([Message.of("system", "Be brief."), Message.of("user", text(9))])
        answers = tuple((Message.of("assistant", text(12)),) for _ in range(n_answers))
        made.append(Exchange(prompt, answers))
    return made


def trees_of(tokenizer: Any, given: list[Exchange]) -> list[Tree]:
    """Their token trees."""
    trees = list(encode_trees(tokenizer, given))
    assert all(isinstance(tree, Tree) for tree in trees)
    return trees  # type: ignore[return-value]


def opinionated(folder: Path, dtype: str = "float32") -> Policy:
    """A reward model over a language model, with a layer that is not zero."""
    policy = load_reward_model(str(folder), dtype=dtype, device="cpu")
    weight = policy.model.score.weight
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(11)
        weight.copy_(torch.randn(weight.shape) / 6)
    if dtype == "float64":
        _exact_norms(policy.model)
    return policy


def _exact_norms(model: Any) -> None:
    """fp64 norms: Llama's own round to fp32 inside whatever the model is in."""
    for name, norm in list(model.named_modules()):
        if isinstance(norm, LlamaRMSNorm):
            exact = torch.nn.RMSNorm(len(norm.weight), norm.variance_epsilon)
            exact.weight = norm.weight
            model.set_submodule(name, exact)


def naive_rewards(model: Any, trees: list[Tree]) -> Tensor:
    """(n_answers,): transformers' own forward of prompt and answer a row, padded on the right."""
    pad = model.config.pad_token_id
    rows = [
        torch.tensor([*tree.prompt.tolist(), *branch.ids.tolist()])
        for tree in trees
        for branch in tree.branches
    ]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
    seen = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return model(input_ids=ids, attention_mask=seen).logits[:, 0]
