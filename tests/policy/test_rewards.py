"""Rewards of each family of models against transformers' own classifier, a row an answer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tree_cases import random_trees, trees

from prefkit.policy.layout import choose_layout
from prefkit.policy.packing import Layout
from prefkit.policy.parts import is_reward_model
from prefkit.policy.rewards import answer_rewards, split_tree
from prefkit.policy.trees import Tree

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": 96,  # the trees have no such token
    "bos_token_id": 1,
    "eos_token_id": 2,
    "num_labels": 1,
}
# family → what differs from SHAPE, and the layout it gets.
FAMILIES: dict[str, tuple[dict[str, Any], str]] = {
    "llama": ({}, "tree"),
    "mistral": ({"sliding_window": None}, "tree"),
    "qwen2": ({}, "tree"),
    "qwen3": ({}, "tree"),
    "gemma2": ({"sliding_window": 64}, "tree"),
    "phi3": ({}, "tree"),
    "gpt2": ({}, "tree"),
    "gpt_neox": ({}, "tree"),
    "opt": ({"ffn_dim": 48, "word_embed_proj_dim": 32}, "tree"),
    "falcon": ({"alibi": False, "head_dim": "absent"}, "tree"),
    "smollm3": ({}, "tree"),
    "bloom": ({}, "padded"),
}


def classifier(family: str) -> Any:
    """A random reward model in fp64."""
    changes, _ = FAMILIES[family]
    values = {name: v for name, v in {**SHAPE, **changes}.items() if v != "absent"}
    config = transformers.AutoConfig.for_model(family, **values)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    return model.double().eval()


def one_by_one(model: Any, some: list[Tree]) -> torch.Tensor:
    """(n_answers,): one row a forward, so that nothing is padded."""
    rows = [
        torch.tensor([*tree.prompt.tolist(), *branch.ids.tolist()])
        for tree in some
        for branch in tree.branches
    ]
    return torch.cat([model(input_ids=row[None]).logits[:, 0] for row in rows])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reward_is_that_of_transformers_classifier(family):
    """To 1e-5: most families round to fp32 in their norms (training/test_reward_model.py holds
    1e-10 where nothing does)."""
    model, some = classifier(family), random_trees(11)
    assert is_reward_model(model)
    layout = choose_layout(model, longest=max(tree.longest for tree in some))
    assert layout.kind == FAMILIES[family][1], layout.reason
    with torch.no_grad():
        wanted = one_by_one(model, some)
        assert wanted.dtype == torch.float64
        found = answer_rewards(model, some, layout=layout)
    assert wanted.std() > 0.01
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_an_answer_without_tokens_is_read_at_the_prompts_end():
    model, some = classifier("llama"), random_trees(5, n=12)
    empty = [len(branch.ids) == 0 for tree in some for branch in tree.branches]
    assert any(empty)
    with torch.no_grad():
        for layout in (Layout("tree", "sdpa", ""), Layout("padded", "sdpa", "")):
            found = answer_rewards(model, some, layout=layout)
            torch.testing.assert_close(found, one_by_one(model, some), rtol=0, atol=1e-5)


@given(trees, st.integers(1, 60))
def test_split_trees_keep_every_branch_in_order_within_the_budget(tree, budget):
    for whole in tree:
        parts = split_tree(whole, budget)
        assert [b for part in parts for b in part.branches] == list(whole.branches)
        assert all((part.prompt == whole.prompt).all() for part in parts)
        assert all(p.n_tokens <= budget or len(p.branches) == 1 for p in parts)
