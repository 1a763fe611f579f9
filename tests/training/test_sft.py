"""SFT: transformers' own loss with the prompt masked, and a start for DPO."""

from __future__ import annotations

import json
import math
import random

import pytest
import torch
from planted_pairs import WORDS
from transformers import AutoModelForCausalLM, AutoTokenizer

from prefkit.core.records import Message, Prompt, TrainRow
from prefkit.policy.load import load_policy
from prefkit.policy.template import encode_tree
from prefkit.training import TrainSettings, train
from prefkit.training.rows import encode_rows

# transformers leaves out labels of this value.
MASKED = -100
SHOWN = "the sun and the moon!"


def settings(**given: object) -> TrainSettings:
    base = {"loss": "sft", "dtype": "float32", "device": "cpu", "learning_rate": 5e-3}
    return TrainSettings.model_validate({**base, "epochs": 2, "trackers": [], **given})


def demonstrations(
    n: int, *, turns: int = 1, seed: int = 0, answer: str | None = None
) -> list[TrainRow]:
    """Dialogues of unequal length, answered with the prompt's first word unless ``answer`` is."""
    draw = random.Random(seed)
    rows = []
    for i in range(n):
        asked = draw.choices(WORDS, k=draw.randint(1, 8))
        prompt = Prompt.make([Message.of("user", " ".join(asked))])
        said = [Message.of("assistant", answer or f"{asked[0]}!")]
        for _ in range(turns - 1):
            said.append(Message.of("user", " ".join(draw.choices(WORDS, k=3))))
            said.append(Message.of("assistant", f"{asked[0]} again!"))
        rows.append(TrainRow(f"row-{i}", prompt, (tuple(said),), "demonstration"))
    return rows


def transformers_loss(model, tokenizer, rows, turns: int):
    """The loss that transformers gives for the padded batch; found by searching the texts.

    Masked is whatever is not an assistant's turn; its end-of-turn token counts.
    """
    ids, labels = [], []
    for row in rows:
        messages = [*row.prompt.messages, *row.completions[0]]
        row_ids: list[int] = []
        row_labels: list[int] = []
        for message in messages:
            head = f"<|{message.role}|>\n"
            for text, counts in ((head, False), (f"{message.text}<|end|>", True), ("\n", False)):
                piece = tokenizer(text, add_special_tokens=False)["input_ids"]
                keep = counts and message.role == "assistant"
                row_ids += piece
                row_labels += piece if keep else [MASKED] * len(piece)
        ids.append(torch.tensor(row_ids))
        labels.append(torch.tensor(row_labels))
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=0)
    wanted = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=MASKED)
    seen = torch.nn.utils.rnn.pad_sequence([torch.ones_like(i) for i in ids], batch_first=True)
    return model(input_ids=padded, attention_mask=seen, labels=wanted).loss


@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("tokens_at_once", [40, 4000])
def test_loss_and_step_are_those_of_transformers_with_the_prompt_masked(
    turns, tokens_at_once, tiny_model_dir, tmp_path
):
    """One step of SGD without clipping: the parameters' change is −rate · gradient."""
    rows = demonstrations(7, turns=turns)
    rate = 0.01
    chosen = settings(
        method="full",
        optimizer="sgd",
        learning_rate=rate,
        schedule="constant",
        warmup=0,
        max_grad_norm=1e9,
        batch_size=7,
        max_steps=1,
        tokens_at_once=tokens_at_once,
    )
    result = train(str(tiny_model_dir), rows, chosen, out=tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    naive = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    loss = transformers_loss(naive, tokenizer, rows, turns)
    loss.backward()
    assert result.first_loss == pytest.approx(loss.item(), abs=1e-5)
    stepped = dict(AutoModelForCausalLM.from_pretrained(result.folder).named_parameters())
    for name, before in naive.named_parameters():
        assert before.grad is not None
        gradient = (before.detach() - stepped[name].detach()) / rate
        # The difference of two fp32 weights of size 1 is known to 1e-7.
        assert torch.allclose(gradient, before.grad, atol=2e-5), name


def test_the_mean_is_over_tokens_each_row_weighed(tiny_model_dir, tmp_path):
    """Σ w·nll / Σ w·tokens, by hand from the rows' own losses."""
    rows = demonstrations(4, seed=3)
    rows = [
        TrainRow(row.id, row.prompt, row.completions, row.target, weight=weight)
        for row, weight in zip(rows, (0.5, 1.0, 2.0, 4.0), strict=True)
    ]
    result = train(str(tiny_model_dir), rows, settings(max_steps=1, batch_size=4), out=tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    encoded = encode_rows(tokenizer, rows, max_length=512).rows
    counts = [row.weight * row.tree.branches[0].n_scored for row in encoded]
    with torch.no_grad():
        means = [transformers_loss(model, tokenizer, [row], 1).item() for row in rows]
    wanted = sum(n * mean for n, mean in zip(counts, means, strict=True)) / sum(counts)
    assert result.first_loss == pytest.approx(wanted, abs=1e-5)
    assert abs(wanted - sum(means) / 4) > 1e-3


def test_pairs_are_demonstrations_of_their_chosen_side(tiny_model_dir, pairs, tmp_path):
    shown = [TrainRow(e.id, e.prompt, (e.chosen,), "demonstration", weight=e.weight) for e in pairs]
    given = settings(max_steps=2, labels="hard")
    losses = [
        train(str(tiny_model_dir), rows, given, out=tmp_path / name).last_loss
        for name, rows in (("pairs", pairs), ("shown", shown))
    ]
    assert losses[0] == losses[1]


@pytest.fixture(scope="module")
def taught(tiny_model_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("sft")
    given = settings(epochs=20, learning_rate=1e-2, checkpoint_every=1000)
    rows, others = (demonstrations(n, seed=n, answer=SHOWN) for n in (60, 20))
    return train(str(tiny_model_dir), rows, given, heldout=others, out=out)


def test_what_is_shown_is_learned(taught, tiny_model_dir):
    """Other prompts too get the answer that was always given.

    The loss stays high: the tiny model's embedding, which no adapter changes, is its head as well
    and too small to make any token certain.
    """
    assert taught.heldout_loss < taught.first_loss - 1.5
    line = json.loads((taught.folder.parent / "evaluations.jsonl").read_text().splitlines()[-1])
    assert line["nll_per_token"] == pytest.approx(line["loss"], abs=1e-6)
    policy = load_policy(str(tiny_model_dir), adapter=taught.adapter, dtype="float32", device="cpu")
    right = 0
    rows = demonstrations(20, seed=20, answer=SHOWN)
    for row in rows:
        prompt = encode_tree(policy.tokenizer, row.prompt, row.completions).prompt
        ids = torch.tensor(prompt.astype("int64"))[None]
        with torch.no_grad():
            out = policy.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                max_new_tokens=12,
            )  # fmt: skip
        said = policy.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        right += said == SHOWN
    assert right == len(rows)


@pytest.mark.parametrize(("reference", "starts_level"), [("start", True), ("base", False)])
def test_dpo_goes_on_from_an_sft_adapter(
    reference, starts_level, taught, tiny_model_dir, pairs, tmp_path
):
    """Against the adapter it starts from the first loss is ln 2; against the base it is not."""
    result = train(
        str(tiny_model_dir),
        pairs,
        settings(loss="sigmoid", reference=reference),
        start_adapter=taught.adapter,
        out=tmp_path,
    )
    assert result.reference is not None
    assert result.reference.startswith(f"{reference}: ")
    level = abs(result.first_loss - math.log(2)) < 1e-6
    assert level is starts_level
    if starts_level:
        assert result.reward_accuracy is not None
        assert result.reward_accuracy > 0.6
