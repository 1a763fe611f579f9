"""Reward accuracy against a computation that shares nothing with ours but the token ids."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_adapter import build_tiny_adapter

from prefkit.core.errors import DataError
from prefkit.core.records import Example, Message, Prompt
from prefkit.evaluation import reward_accuracy
from prefkit.policy.resolve import resolve_model
from prefkit.policy.template import encode_tree

WORDS = ["bee", "ant", "owl", "fox", "hen", "cat", "dog", "cow", "pig", "rat", "emu", "elk"]


def examples() -> list[Example]:
    """Twelve pairs whose sides differ in length and words."""
    made = []
    for i, word in enumerate(WORDS):
        prompt = Prompt.make([Message.of("user", f"What is a {word}?")])
        chosen = [Message.of("assistant", f"A {word} is an animal." + " Yes." * (i % 3))]
        rejected = [Message.of("assistant", f"{word} " * (1 + i % 4))]
        made.append(Example.make(prompt, chosen, rejected)[0])
    return made


@pytest.fixture(scope="module")
def adapter(tiny_model_dir, tmp_path_factory) -> Path:
    return build_tiny_adapter(tiny_model_dir, tmp_path_factory.mktemp("adapter"))


def naive_margins(model_dir: Path, adapter: Path, beta: float) -> list[float]:
    """β(Δ_chosen − Δ_rejected) row by row from full logits of two separately loaded models."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    other = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(other, str(adapter)).merge_and_unload()

    def logp(model, tree) -> float:
        ids = [*tree.prompt.tolist(), *tree.branches[0].ids.tolist()]
        with torch.no_grad():
            table = model(torch.tensor([ids])).logits.double().log_softmax(-1)[0]
        return sum(table[t - 1, ids[t]].item() for t in range(len(tree.prompt), len(ids)))

    margins = []
    for example in examples():
        sides = [
            encode_tree(tokenizer, example.prompt, [side])
            for side in (example.chosen, example.rejected)
        ]
        chosen, rejected = (logp(tuned, tree) - logp(base, tree) for tree in sides)
        margins.append(beta * (chosen - rejected))
    return margins


def test_accuracy_and_margin_equal_a_naive_computation(tiny_model_dir, adapter):
    margins = naive_margins(tiny_model_dir, adapter, beta=0.3)
    source = resolve_model(str(tiny_model_dir))
    found = reward_accuracy(source, adapter, examples(), beta=0.3, dtype="float32")
    assert min(abs(m) for m in margins) > 1e-3  # else a rounding could turn a sign
    assert found.accuracy == pytest.approx(sum(m > 0 for m in margins) / len(margins))
    assert found.mean_margin == pytest.approx(sum(margins) / len(margins), abs=1e-4)
    assert 0 < found.accuracy < 1
    assert found.n == len(margins)


def test_swapped_labels_give_the_complement(tiny_model_dir, adapter):
    source = resolve_model(str(tiny_model_dir))
    swapped = [replace(e, chosen=e.rejected, rejected=e.chosen) for e in examples()]
    one, other = (
        reward_accuracy(source, adapter, rows, beta=0.1, dtype="float32")
        for rows in (examples(), swapped)
    )
    assert one.accuracy + other.accuracy == pytest.approx(1.0)
    assert one.mean_margin == pytest.approx(-other.mean_margin, abs=1e-5)


def test_without_an_adapter_every_pair_is_a_tie(tiny_model_dir):
    found = reward_accuracy(resolve_model(str(tiny_model_dir)), None, examples(), beta=0.1)
    assert (found.accuracy, found.mean_margin) == (0.5, 0.0)


def test_even_labels_rank_nothing_and_are_counted(tiny_model_dir, adapter):
    source = resolve_model(str(tiny_model_dir))
    rows = examples()
    even = [replace(rows[0], p=0.5), *rows[1:]]
    found = reward_accuracy(source, adapter, even, beta=0.1)
    assert (found.n, found.n_skipped) == (len(rows) - 1, 1)
    with pytest.raises(DataError, match="none of the 1 pairs"):
        reward_accuracy(source, adapter, even[:1], beta=0.1)


def test_a_prompt_that_fills_the_length_is_named(tiny_model_dir, adapter):
    source = resolve_model(str(tiny_model_dir))
    with pytest.raises(DataError, match=f"example {examples()[0].id}: its .* fill max_length 3"):
        reward_accuracy(source, adapter, examples(), beta=0.1, max_length=3)
