"""Reward models: the same numbers as transformers', trained by the same loop, left to be reloaded.

Bradley-Terry with soft labels is least where r_c − r_r = logit p (+ margin), by setting the
derivative of −p log σ(z) − (1 − p) log σ(−z), σ(z) − p, to zero.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import random
import re
import shutil

import peft
import pytest
import torch
from planted_pairs import make_pair
from reward_models import exchanges, naive_rewards, opinionated, trees_of
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from prefkit.core.errors import ConfigError, ModelError
from prefkit.core.records import Example, Message, Prompt
from prefkit.policy.layout import Layout, choose_layout
from prefkit.policy.load import load_policy
from prefkit.policy.logps import answer_states
from prefkit.policy.rewards import (
    answer_rewards,
    load_reward_model,
    padding_token,
    score_trees,
    split_tree,
)
from prefkit.policy.template import Exchange
from prefkit.settings import parse_settings
from prefkit.training import TrainSettings, train
from prefkit.training.merge import merge

PADDED = Layout("padded", "sdpa", "")
CLOSE = {"float32": 1e-5, "float64": 1e-10}


def settings(**given: object) -> TrainSettings:
    base = {"loss": "bradley_terry", "dtype": "float32", "device": "cpu", "learning_rate": 5e-3}
    return TrainSettings.model_validate({**base, "epochs": 4, "trackers": [], **given})


def question_pairs(n: int, seed: int) -> list[Example]:
    draw = random.Random(seed)
    return [make_pair(draw) for _ in range(n)]


@pytest.fixture(scope="module")
def given():
    return exchanges(5)


@pytest.fixture(scope="module")
def trained_adapter(tiny_model_dir, pairs, tmp_path_factory):
    out = tmp_path_factory.mktemp("reward")
    return train(str(tiny_model_dir), pairs, settings(), out=out / "run").folder


def bradley_terry(rewards: torch.Tensor) -> torch.Tensor:
    """Three answers a prompt, the first is best: the mean over two pairs, p = 0.8."""
    table = rewards.view(-1, 3)
    z = table[:, :1] - table[:, 1:]
    p = 0.8
    return -(p * z.sigmoid().log() + (1 - p) * (-z).sigmoid().log()).mean()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["tree", "padded"])
def test_rewards_and_gradients_are_those_of_transformers_padded_forward(
    dtype, kind, tiny_model_dir, given
):
    policy = opinionated(tiny_model_dir, dtype)
    trees = trees_of(policy.tokenizer, given)
    layout = choose_layout(policy.model, longest=100) if kind == "tree" else PADDED
    assert layout.kind == kind
    gradients = []
    rewards = []
    for score in (
        lambda: naive_rewards(policy.model, trees),
        lambda: answer_rewards(policy.model, trees, layout=layout),
    ):
        policy.model.zero_grad()
        rewards.append(score())
        bradley_terry(rewards[-1]).backward()
        gradients.append({n: p.grad.clone() for n, p in policy.model.named_parameters()})
    assert rewards[0].std() > 0.1
    assert torch.allclose(*rewards, atol=CLOSE[dtype], rtol=0)
    assert set(gradients[0]) == set(gradients[1])
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=CLOSE[dtype], rtol=0), name


def test_splitting_a_tree_and_packing_change_no_reward(tiny_model_dir, given):
    policy = opinionated(tiny_model_dir, "float64")
    trees = trees_of(policy.tokenizer, given)
    layout = choose_layout(policy.model, longest=100)
    whole = score_trees(policy.model, trees, layout=layout, budget=10_000)
    tight = max(tree.longest for tree in trees)
    parts = [split_tree(tree, tight) for tree in trees]
    assert sum(map(len, parts)) > len(trees)
    assert all(part.n_tokens <= tight for group in parts for part in group)
    flat = [part for group in parts for part in group]
    again = score_trees(policy.model, flat, layout=layout, budget=tight)
    assert [r for rewards in again for r in rewards] == pytest.approx(
        [r for rewards in whole for r in rewards], abs=1e-10
    )


def test_a_new_reward_model_rewards_nothing_and_starts_at_ln_2(tiny_model_dir, pairs, tmp_path):
    policy = load_reward_model(str(tiny_model_dir), dtype="float32", device="cpu")
    assert not policy.model.score.weight.any()
    result = train(str(tiny_model_dir), pairs, settings(max_steps=1), out=tmp_path)
    assert result.first_loss == pytest.approx(math.log(2), abs=1e-7)


def test_a_planted_preference_is_learned_and_measured_on_other_pairs(tiny_model_dir, tmp_path):
    result = train(
        str(tiny_model_dir),
        question_pairs(48, 1),
        settings(),
        heldout=question_pairs(60, 2),
        out=tmp_path,
    )
    assert result.heldout_accuracy is not None
    assert result.heldout_accuracy > 0.95
    line = json.loads((tmp_path / "evaluations.jsonl").read_text().splitlines()[-1])
    # Certain labels: the mean of −log σ(margin) is the loss, 1 − σ(margin) the gap to p = 1.
    assert line["reward_margin"] == pytest.approx(line["chosen_reward"] - line["rejected_reward"])
    implied = sum(n * said for n, said, _ in line["bins"]) / 60
    assert line["ece"] == pytest.approx(1 - implied)
    assert line["loss"] < 0.35
    assert not [name for name in line if "logp" in name or "logratio" in name]


def weighed() -> tuple[list[Example], list[float]]:
    """Pairs and where their rewards have to end: soft labels, a margin, two raters who differ."""
    draw = random.Random(4)
    made = [make_pair(draw, p=p) for p in (0.6, 0.75, 0.9)]
    wanted = [math.log(e.p / (1 - e.p)) for e in made]
    soft = make_pair(draw, p=0.7)
    margin, _ = Example.make(soft.prompt, soft.chosen, soft.rejected, p=0.7, margin=0.5)
    one = make_pair(draw, weight=3.0)
    other, flipped = Example.make(one.prompt, one.rejected, one.chosen, p=1.0, weight=1.0)
    assert not flipped
    assert other.id != one.id
    return [*made, margin, one, other], [*wanted, math.log(0.7 / 0.3) + 0.5, math.log(3)]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_rewards_come_to_differ_by_logit_p_and_the_margin_weights_counted(
    method, tiny_model_dir, tmp_path
):
    rows, wanted = weighed()
    result = train(
        str(tiny_model_dir),
        rows,
        settings(
            method=method,
            dtype="float64",
            epochs=150,
            schedule="cosine",
            loss_params={"margin": 1.0},
            checkpoint_every=10_000,
            learning_rate=1e-2 if method == "lora" else 2e-3,
        ),
        out=tmp_path,
    )
    source = str(tiny_model_dir) if method == "lora" else str(result.folder)
    policy = load_reward_model(source, adapter=result.adapter, dtype="float64", device="cpu")
    found = []
    for row in rows[: len(wanted)]:
        (tree,) = trees_of(policy.tokenizer, [exchange(row)])
        first, second = answer_rewards(policy.model, [tree], layout=PADDED).tolist()
        found.append(first - second)
    assert found == pytest.approx(wanted, abs=0.02)


def exchange(row: Example):
    return Exchange(row.prompt, (row.chosen, row.rejected))


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "vera", "full"])
def test_it_reloads_in_transformers_and_peft_with_the_same_rewards(
    method, tiny_model_dir, pairs, given, tmp_path
):
    result = train(str(tiny_model_dir), pairs, settings(method=method), out=tmp_path)
    folder, over = result.folder, {"num_labels": 1}
    source = folder if method == "full" else tiny_model_dir
    ours = load_reward_model(str(source), adapter=result.adapter, dtype="float32", device="cpu")
    trees = trees_of(ours.tokenizer, given)
    with torch.no_grad():
        mine = answer_rewards(ours.model, trees, layout=PADDED)
        if method == "full":
            theirs = AutoModelForSequenceClassification.from_pretrained(folder)
        else:
            theirs = AutoModelForSequenceClassification.from_pretrained(tiny_model_dir, **over)
            theirs = peft.PeftModel.from_pretrained(theirs, folder)
        assert torch.allclose(naive_rewards(theirs.eval(), trees), mine, atol=1e-6)
    assert mine.std() > 0.05


def test_an_adapter_merges_into_a_whole_reward_model(
    trained_adapter, tiny_model_dir, given, tmp_path
):
    merged = merge(trained_adapter, tmp_path / "merged", model=str(tiny_model_dir))
    over = load_reward_model(
        str(tiny_model_dir), adapter=trained_adapter, dtype="float32", device="cpu"
    )
    trees = trees_of(over.tokenizer, given)
    whole = AutoModelForSequenceClassification.from_pretrained(merged.folder).eval()
    again = load_reward_model(str(merged.folder), dtype="float32", device="cpu", trained=True)
    with torch.no_grad():
        rewards = answer_rewards(over.model, trees, layout=PADDED)
        assert rewards.std() > 0.05
        assert torch.allclose(naive_rewards(whole, trees), rewards, atol=1e-5)
        assert torch.allclose(answer_rewards(again.model, trees, layout=PADDED), rewards, atol=1e-5)


@pytest.fixture
def ends_in_padding(tiny_model_dir, tmp_path):
    """The tiny model as many chat models are: padded with the token that ends a turn."""
    folder = tmp_path / "padded"
    shutil.copytree(tiny_model_dir, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": 1}))
    assert tokenizer.pad_token_id == 1
    return folder


def test_padding_is_a_token_that_no_answer_ends_with(ends_in_padding, given):
    """transformers reads the reward before the end-of-turn token where that is padding too."""
    policy = opinionated(ends_in_padding)
    trees = trees_of(policy.tokenizer, given)
    assert all(branch.ids[-1] == 1 for tree in trees for branch in tree.branches)
    assert padding_token(policy.tokenizer) == policy.model.config.pad_token_id != 1
    with torch.no_grad():
        rewards = answer_rewards(policy.model, trees, layout=PADDED)
        assert torch.allclose(naive_rewards(policy.model, trees), rewards, atol=1e-5)
        policy.model.config.pad_token_id = 1
        assert not torch.allclose(naive_rewards(policy.model, trees), rewards, atol=1e-2)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_cards_own_lines_give_the_reward(method, ends_in_padding, pairs, tmp_path):
    result = train(str(ends_in_padding), pairs, settings(method=method), out=tmp_path / "run")
    card = (result.folder / "README.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    code = block.replace("PATH_OF_THIS_FOLDER", str(result.folder))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(code, {})
    source = str(ends_in_padding) if method == "lora" else str(result.folder)
    policy = load_reward_model(source, adapter=result.adapter, dtype="float32", device="cpu")
    prompt = Prompt.make([Message.of("user", "Hello")])
    hello = [(Message.of("assistant", "Hi!"),)]
    trees = trees_of(policy.tokenizer, [Exchange(prompt, tuple(hello))])
    reward = answer_rewards(policy.model, trees, layout=PADDED).item()
    assert abs(reward) > 0.01
    assert float(said.getvalue().split()[-1]) == pytest.approx(reward, abs=1e-5)


def test_training_goes_on_from_its_own_adapter(
    trained_adapter, tiny_model_dir, pairs, given, tmp_path
):
    still = settings(learning_rate=1e-9, max_steps=1)
    onward = train(str(tiny_model_dir), pairs, still, start_adapter=trained_adapter, out=tmp_path)
    model = str(tiny_model_dir)
    one, two = (
        load_reward_model(model, adapter=adapter, dtype="float32", device="cpu")
        for adapter in (trained_adapter, onward.adapter)
    )
    trees = trees_of(one.tokenizer, given)
    with torch.no_grad():
        before, after = (answer_rewards(m.model, trees, layout=PADDED) for m in (one, two))
    assert torch.allclose(before, after, atol=1e-6)
    assert before.std() > 0.05


def test_it_starts_from_the_layers_of_an_sft_adapter(tiny_model_dir, pairs, given, tmp_path):
    shown = settings(loss="sft", labels="hard", epochs=1)
    sft = train(str(tiny_model_dir), pairs, shown, out=tmp_path / "sft").adapter
    assert sft is not None
    out = train(
        str(tiny_model_dir),
        pairs,
        settings(learning_rate=1e-9, max_steps=1),
        start_adapter=sft,
        out=tmp_path / "rm",
    )
    assert out.first_loss == pytest.approx(math.log(2), abs=1e-7)
    reward = load_reward_model(
        str(tiny_model_dir), adapter=out.adapter, dtype="float32", device="cpu"
    )
    writer = load_policy(str(tiny_model_dir), adapter=sft, dtype="float32", device="cpu")
    plain = load_policy(str(tiny_model_dir), dtype="float32", device="cpu")
    trees = trees_of(writer.tokenizer, given)
    with torch.no_grad():
        one, two, base = (
            answer_states(m.model, trees, layout=PADDED) for m in (reward, writer, plain)
        )
    assert torch.allclose(one, two, atol=1e-6)
    assert not torch.allclose(one, base, atol=1e-2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "prefix"}, "peft trains no reward beside virtual tokens"),
        ({"wpo": True}, "wpo: a reward model has no log-probs"),
        ({"ld_alpha": 0.5}, "ld_alpha: a reward model has no log-probs"),
        ({"n_samples": 2}, "n_samples: a reward model writes no answers"),
        ({"reference": "start"}, "a reward model is compared with none"),
        ({"beta": 0.1}, "beta: bradley_terry takes no such parameter"),
        ({"loss": {"bradley_terry": 1, "nll": 1}}, "cannot be mixed"),
    ],
)
def test_settings_that_mean_nothing_to_a_reward_model_are_refused(given, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse_settings(TrainSettings, {"loss": "bradley_terry", **given})


def test_models_and_adapters_of_the_other_kind_are_refused(
    trained_adapter, tiny_model_dir, pairs, tmp_path
):
    model = str(tiny_model_dir)
    with pytest.raises(ModelError, match="a language model, not a reward model"):
        load_reward_model(model, device="cpu", trained=True)
    with pytest.raises(ModelError, match="this is a reward model's adapter"):
        load_policy(model, adapter=trained_adapter, device="cpu")
    with pytest.raises(ModelError, match="this is a reward model's adapter"):
        train(model, pairs, settings(loss="sigmoid"), start_adapter=trained_adapter, out=tmp_path)
    with pytest.raises(ConfigError, match="score makes the reward"):
        train(model, pairs, settings(lora={"targets": ["score"]}), out=tmp_path)
    with pytest.raises(ConfigError, match="constraints read log-probs"):
        train(
            model, pairs, settings(), constraints=[lambda logps, rows: logps.policy[:, 0]],
            out=tmp_path,
        )  # fmt: skip
    writer = load_policy(model, dtype="float32", device="cpu")
    with pytest.raises(ConfigError, match="takes a reward model, and the one in memory is"):
        train(writer, pairs, settings(), out=tmp_path)
    two = json.loads((tiny_model_dir / "config.json").read_text())
    labels = {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "a", "1": "b"}}
    shutil.copytree(tiny_model_dir, tmp_path / "two")
    (tmp_path / "two" / "config.json").write_text(json.dumps({**two, **labels}))
    with pytest.raises(ModelError, match="a classifier of 2 labels"):
        load_reward_model(str(tmp_path / "two"), device="cpu")
