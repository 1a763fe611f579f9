"""Reward models: a number for an answer, read by a linear layer at the answer's last token.

In transformers they are sequence classifiers with one label. The reward is r(x, y) of
Bradley-Terry, P(y beats y') = σ(r − r'): only differences at one prompt mean anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prefkit.core.errors import ModelError, require
from prefkit.core.files import read_json
from prefkit.core.progress import Progress, silent
from prefkit.policy.layout import Layout, plan_packs
from prefkit.policy.load import Policy, attach_adapter, load_tokenizer, load_weights, policy_digest
from prefkit.policy.logps import answer_states
from prefkit.policy.packing import size_of
from prefkit.policy.parts import reward_layer
from prefkit.policy.rendering import closing_text
from prefkit.policy.resolve import ModelSource, resolve_model
from prefkit.policy.trees import Tree

# What transformers calls the layer, in every decoder that it makes a classifier of.
SCORE = "score"


def load_reward_model(
    source: ModelSource | str,
    *,
    adapter: Path | None = None,
    dtype: str = "auto",
    device: str = "auto",
    quantize: bool = False,
    trained: bool = False,
) -> Policy:
    """Load a reward model in evaluation mode; ``adapter`` is a peft folder laid over it.

    A language model gets a layer of zeros, so that every answer starts with reward 0 and every
    pair with the loss ln 2; with ``trained`` it is refused instead. The padding token becomes one
    that no answer ends with (see ``padding_token``). dtype, device and quantize are those of
    ``load_policy``. Raises ModelError for a model that is neither, and for what does not load.
    """
    if isinstance(source, str):
        source = resolve_model(source)
    config = _checked_config(source)
    digest = policy_digest(source, adapter)
    tokenizer = load_tokenizer(source)
    loader = require("transformers", "train").AutoModelForSequenceClassification
    model, absent = load_weights(
        loader, source, dtype=dtype, device=device, quantize=quantize, num_labels=1
    )
    _check_score(model, config)
    fresh = any(name.startswith(f"{SCORE}.") for name in absent)
    if fresh and trained and adapter is None:
        raise ModelError(
            f"{source.spec}: a language model, not a reward model: it has no trained layer "
            f"{SCORE!r}",
            hint="give the folder of a trained one, or its --adapter (prefkit train --set "
            "loss=bradley_terry)",
        )
    if fresh:
        for parameter in model.score.parameters():
            nn.init.zeros_(parameter)
    padding = padding_token(tokenizer)
    model.config.get_text_config().pad_token_id = padding
    if padding is not None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(padding)
    if adapter is not None:
        model = attach_adapter(model, adapter)
    model.eval()
    return Policy(model, tokenizer, source, digest)


def _checked_config(source: ModelSource) -> Mapping[str, Any]:
    config = read_json(source.path / "config.json")
    kind = str((config.get("architectures") or [""])[0])
    labels = config.get("id2label")
    if kind.endswith("ForSequenceClassification") and labels is not None and len(labels) != 1:
        raise ModelError(
            f"{source.spec}: a classifier of {len(labels)} labels; a reward model has one",
            hint="choose a reward model, or the language model it was made from",
        )
    return config


def _check_score(model: Any, config: Mapping[str, Any]) -> None:
    layer = dict(model.named_children()).get(SCORE)
    if not isinstance(layer, nn.Linear) or layer.out_features != 1:
        raise ModelError(
            f"{config.get('model_type')}: transformers makes no reward model of this architecture "
            f"(no linear layer {SCORE!r})",
            hint="choose another decoder-only model",
        )


def padding_token(tokenizer: Any) -> int | None:
    """A token that no answer ends with, None where the tokenizer has no such special token.

    transformers reads a classifier at the last token that is not padding. Where answers end with
    the padding token, as many chat models have it, that is the token before.
    """
    closing = tokenizer(closing_text(tokenizer), add_special_tokens=False)["input_ids"]
    ends = {tokenizer.eos_token_id, *closing}
    named = (tokenizer.pad_token_id, tokenizer.unk_token_id)
    special = [index for index in (*named, *sorted(tokenizer.all_special_ids)) if index is not None]
    return next((int(index) for index in special if index not in ends), None)


def answer_rewards(model: Any, trees: Sequence[Tree], *, layout: Layout) -> Tensor:
    """(n_answers,): the reward of every branch, counted through all trees, from one forward pass.

    fp32, or fp64 for an fp64 model: the layer's product is not rounded to the model's precision.
    Gradients flow to whatever requires them.
    """
    layer = reward_layer(model)
    states = answer_states(model, trees, layout=layout)
    exact = torch.float64 if states.dtype == torch.float64 else torch.float32
    bias = None if layer.bias is None else layer.bias.to(exact)
    return nn.functional.linear(states.to(exact), layer.weight.to(exact), bias).squeeze(-1)


def score_trees(
    model: Any,
    trees: Sequence[Tree],
    *,
    layout: Layout,
    budget: int,
    progress: Progress = silent,
) -> list[list[float]]:
    """The rewards of each tree's branches, without gradient; trees share passes of at most
    ``budget`` tokens, what is longer alone goes alone."""
    found: list[list[float]] = [[] for _ in trees]
    done = 0
    for pack in plan_packs([size_of(tree, layout) for tree in trees], budget):
        with torch.no_grad():
            rewards = answer_rewards(model, [trees[i] for i in pack], layout=layout).tolist()
        start = 0
        for i in pack:
            end = start + len(trees[i].branches)
            found[i] = rewards[start:end]
            start = end
        done += len(pack)
        progress("scoring answers", done, len(trees))
    return found


def split_tree(tree: Tree, budget: int) -> list[Tree]:
    """``tree`` as trees of at most ``budget`` tokens over the same prompt, branches in order; a
    branch that is longer alone has a tree of its own."""
    parts: list[Tree] = []
    start, size = 0, len(tree.prompt)
    for i, branch in enumerate(tree.branches):
        if i > start and size + len(branch.ids) > budget:
            parts.append(Tree(tree.prompt, tree.branches[start:i]))
            start, size = i, len(tree.prompt)
        size += len(branch.ids)
    return [*parts, Tree(tree.prompt, tree.branches[start:])]
