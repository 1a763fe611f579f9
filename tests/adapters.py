"""Adapters of every method over a tiny model, moved far enough from the base to be seen."""

from __future__ import annotations

from pathlib import Path

import torch

from prefkit.policy.load import load_policy
from prefkit.training.adapter import prepare_model
from prefkit.training.adapter_settings import AdapterSettings, LoraSettings
from prefkit.training.export import leave
from prefkit.training.lineage import data_facts, lineage

IDS = torch.randint(5, 300, (2, 12), generator=torch.Generator().manual_seed(0))
SMALL = {"fourierft": {"n_frequency": 64}, "oft": {"oft_block_size": 8}}
HEAD = ["all-linear", "lm_head"]


def chosen(name, **changes):
    """Settings of a method in a size that fits the tiny model."""
    values = {"lora": LoraSettings(r=4), "n_virtual_tokens": 5, "method": name}
    return AdapterSettings(**{**values, "method_options": SMALL.get(name, {}), **changes})


def loaded(folder):
    return load_policy(str(folder), dtype="float32", device="cpu")


@torch.no_grad()
def logits(model):
    """Of the tokens of IDS: peft puts those of the virtual tokens before them."""
    return model(input_ids=IDS).logits[:, -IDS.shape[1] :]


def trained(model, *, steps=3, rate=0.3, ids=IDS):
    """A few large steps towards one token, so that every part of the adapter has moved."""
    parts = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parts, lr=rate)
    for _ in range(steps):
        (-model(input_ids=ids).logits.log_softmax(-1)[:, -1, 7].sum()).backward()
        torch.nn.utils.clip_grad_norm_(parts, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}


def left(model, policy, settings, weights, out, *, rows=()):
    facts = lineage(policy.source, settings, data=data_facts(rows), run="run")
    return leave(model, weights, out, tokenizer=policy.tokenizer, source=policy.source, facts=facts)


def trained_folder(tiny_model_dir, name: str, out: Path, **changes):
    """(the folder that training ``name`` left, logits of the trained model)"""
    policy, settings = loaded(tiny_model_dir), chosen(name, **changes)
    model = prepare_model(policy, settings, None, seed=3)
    weights = trained(model)
    return left(model, policy, settings, weights, out), logits(model)
