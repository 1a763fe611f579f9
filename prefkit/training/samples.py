"""Answers that the policy gives while it is being trained: to be read, and to estimate the KL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prefkit.core.errors import require
from prefkit.policy.context import context_of
from prefkit.policy.load import pad_id
from prefkit.policy.logps import TokenLogps
from prefkit.policy.parts import causal_model
from prefkit.policy.trees import Branch, Tree
from prefkit.training.facts import SampledAnswers

MAX_TOKENS = 64

Score = Callable[[Sequence[Tree]], TokenLogps]


def sample_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[NDArray[np.int32]],
    *,
    seed: int,
    policy: Score,
    reference: Score | None,
) -> SampledAnswers:
    """One answer a prompt, drawn at temperature 1 from the whole vocabulary, at most 64 tokens.

    Passed over are prompts without a token (raw text) and those that leave the model no position
    for an answer; other answers end where its positions do. policy, reference: what gives the
    log-probs of trees; without a reference no KL can be told. The global random generators stay as
    they are.
    """
    fitting = [(prompt, n) for prompt in prompts if (n := _room(model, len(prompt))) > 0]
    prompts = [prompt for prompt, _ in fitting]
    answers = [
        _sample(model, tokenizer, prompt, seed + i, n) for i, (prompt, n) in enumerate(fitting)
    ]
    texts = [tokenizer.decode(answer, skip_special_tokens=True) for answer in answers]
    asked = [tokenizer.decode(prompt, skip_special_tokens=True) for prompt in prompts]
    if reference is None or not prompts:
        return SampledAnswers(asked, texts)
    trees = [
        Tree(prompt, (Branch(answer, np.ones(len(answer), dtype=np.bool_)),))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    ours = [policy([tree]).values for tree in trees]
    theirs = [reference([tree]).values for tree in trees]
    lengths = [len(answer) for answer in answers]
    return SampledAnswers(
        asked,
        texts,
        policy=torch.cat(ours).cpu().numpy(),
        reference=torch.cat(theirs).cpu().numpy(),
        answer=np.repeat(np.arange(len(answers)), lengths),
    )


def _room(model: Any, n: int) -> int:
    """Tokens that fit behind a prompt of ``n``; models with learned positions have no more."""
    limit = context_of(causal_model(model).config.to_dict())
    if n == 0:
        return 0
    if limit is None:
        return MAX_TOKENS
    adapters = getattr(model, "peft_config", {}).values()
    virtual = max((getattr(a, "num_virtual_tokens", None) or 0 for a in adapters), default=0)
    return min(MAX_TOKENS, limit - virtual - n)


def _sample(
    model: Any, tokenizer: Any, prompt: NDArray[np.int32], seed: int, n: int
) -> NDArray[np.int32]:
    ids = torch.tensor(prompt, dtype=torch.long, device=model.device)[None]
    on_gpu = [model.device] if model.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=on_gpu):
        torch.manual_seed(seed)
        found = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=_plain_sampling(model, tokenizer, n),
        )
    return found[0, ids.shape[1] :].cpu().numpy().astype(np.int32)


def _plain_sampling(model: Any, tokenizer: Any, n: int) -> Any:
    """Every token by its probability: a model's own penalties and cut-offs would bias the KL."""
    own = model.generation_config
    return require("transformers", "train").GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=n,
        eos_token_id=own.eos_token_id,
        pad_token_id=pad_id(tokenizer),
    )
