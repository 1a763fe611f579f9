"""What a run can be asked for: references, constraints, precisions, models in memory."""

import json
import random
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from prefkit.core.errors import ConfigError, DataError
from prefkit.core.progress import silent
from prefkit.core.records import Message, Prompt, TrainRow
from prefkit.policy.load import load_policy
from prefkit.policy.loaded import loaded_policy
from prefkit.policy.logp_store import logp_keys
from prefkit.training import TrainSettings, train
from prefkit.training.gradient import Gradient
from prefkit.training.masters import Masters
from prefkit.training.optimiser import make_optimizer
from prefkit.training.plan import make_plan, with_mismatches
from prefkit.training.rows import encode_rows, read_rows


def settings(**changes):
    values = {"dtype": "float32", "device": "cpu", "learning_rate": 5e-3, "epochs": 1}
    values |= {"trackers": [], "reference_store": "none"}
    return TrainSettings(**{**values, **changes})


@pytest.fixture(scope="module")
def model(tiny_model_dir):
    return str(tiny_model_dir)


class Said:
    """Progress that remembers."""

    def __init__(self):
        self.lines = []

    def __call__(self, what, done, total=None, note=""):
        self.lines.append((what, note))

    @property
    def names(self):
        return {what for what, _ in self.lines}


def lines(out, name="metrics.jsonl"):
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


@pytest.mark.parametrize(
    "change",
    [{"beta": 0.5}, {"learning_rate": 1e-3}, {"seed": 5}, {"loss": "ipo"}, {"lora": {"r": 4}},
     {"tokens_at_once": 60}, {"loss": {"sigmoid": 1.0, "nll": 0.1}}],
    ids=str,
)  # fmt: skip
def test_the_reference_is_scored_once_whatever_is_tried_next(model, pairs, tmp_path, change):
    store = {"reference_store": str(tmp_path / "store")}
    first, second = Said(), Said()
    train(model, pairs[:8], settings(**store), out=tmp_path / "a", progress=first)
    train(model, pairs[:8], settings(**store, **change), out=tmp_path / "b", progress=second)
    assert "scoring the reference" in first.names
    assert "scoring the reference" not in second.names


def test_a_later_round_scores_only_what_is_new(model, pairs, tmp_path, monkeypatch):
    store = settings(reference_store=str(tmp_path / "store"))
    train(model, pairs[:8], store, out=tmp_path / "a")
    scored = []
    import prefkit.training.reference as reference

    split = reference.split_by_key
    monkeypatch.setattr(
        reference,
        "split_by_key",
        lambda trees, tokens: scored.extend(trees) or split(trees, tokens),
    )
    train(model, pairs[:11], store, out=tmp_path / "b")
    assert len(scored) == 3


def test_kto_keeps_its_mismatched_answers_across_seeds(model, pairs, tmp_path):
    store = {"reference_store": str(tmp_path / "store"), "loss": "kto"}
    train(model, pairs[:8], settings(**store), out=tmp_path / "a")
    again = Said()
    train(model, pairs[:8], settings(**store, seed=9), out=tmp_path / "b", progress=again)
    assert "scoring the reference" not in again.names


def test_another_adapter_and_another_model_are_references(model, pairs, tmp_path):
    first = train(model, pairs, settings(epochs=3), out=tmp_path / "first")
    against = train(
        model,
        pairs,
        settings(reference=str(first.folder)),
        out=tmp_path / "against",
        start_adapter=first.folder,
    )
    assert against.first_loss == pytest.approx(0.693147, abs=1e-5), "policy and reference are one"
    assert str(first.folder) in against.reference
    plain = train(model, pairs, settings(reference=model), out=tmp_path / "plain")
    assert plain.first_loss == pytest.approx(0.693147, abs=1e-5)


def test_a_reference_with_other_tokens_is_refused(model, pairs, tmp_path):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(model, other)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    one, two = [token for token in vocab if len(token) == 1][:2]
    vocab[one], vocab[two] = vocab[two], vocab[one]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ConfigError, match="its tokenizer is not the model's"):
        train(model, pairs, settings(reference=str(other)), out=tmp_path / "out")


def test_a_moving_reference_stays_behind_the_policy(model, pairs, tmp_path):
    """decay 0 is the policy of the step before; near 1 it hardly leaves the start."""
    still = train(
        model, pairs, settings(epochs=3, reference="ema", ema_decay=0.9999), out=tmp_path / "still"
    )
    base = train(model, pairs, settings(epochs=3), out=tmp_path / "base")
    assert still.last_loss == pytest.approx(base.last_loss, rel=1e-2)
    close = train(
        model, pairs, settings(epochs=3, reference="ema", ema_decay=0.0), out=tmp_path / "close"
    )
    assert close.ln2_gap is not None
    assert close.ln2_gap < 1e-6
    assert close.last_loss == pytest.approx(0.693147, abs=1e-4), "always the policy itself"


def insult_pairs(n=24):
    """Pairs whose chosen answer is unsafe in half of the rows: DPO alone would make it likelier."""
    rng = random.Random(5)
    words = ("sea", "sun", "moon", "fox", "dog")
    rows = []
    for index in range(n):
        prompt = Prompt.make([Message.of("user", " ".join(rng.choices(words, k=3)))])
        unsafe = index % 2 == 0
        good = " ".join(rng.choices(words, k=3)) + (" lazy lazy" if unsafe else "?")
        bad = " ".join(rng.choices(words, k=3)) + "."
        answers = tuple((Message.of("assistant", text),) for text in (good, bad))
        rows.append(TrainRow(f"row-{index}", prompt, answers, "pair"))
    return rows


def is_unsafe(answer):
    return float("lazy lazy" in answer[-1].text)


def no_gain(logps, rows):
    """λ v(y) relu(log π/π_ref + 1): unsafe answers are to lose at least a nat."""
    unsafe = torch.tensor([[is_unsafe(a) for a in row.completions] for row in rows])
    return (2.0 * unsafe * (logps.ratios() + 1.0).relu()).sum(dim=1)


def test_planted_unsafe_answers_lose_likelihood_under_a_constraint(model, tmp_path):
    rows = insult_pairs()
    plan = settings(epochs=6, batch_size=8)
    free = train(model, rows, plan, out=tmp_path / "free")
    bound = train(model, rows, plan, out=tmp_path / "bound", constraints=[no_gain])
    gains = {}
    for name, result in (("free", free), ("bound", bound)):
        assert result.steps == 18
        gains[name] = unsafe_ratio(tmp_path / name, rows)
    assert gains["free"] > 0.5, "without the constraint the planted answers are learnt"
    assert gains["bound"] < -0.5


def unsafe_ratio(out, rows):
    """Mean log π/π_ref of the unsafe answers under the adapter in ``out``."""
    from prefkit.policy.layout import choose_layout
    from prefkit.policy.logps import tree_logps
    from prefkit.policy.template import encode_tree

    settings_of = json.loads((out / "train.json").read_text())
    policy = load_policy(
        settings_of["model"]["spec"], adapter=out / "adapter", dtype="float32", device="cpu"
    )
    unsafe = [row for row in rows if is_unsafe(row.completions[0])]
    trees = [encode_tree(policy.tokenizer, r.prompt, r.completions[:1]) for r in unsafe]
    layout = choose_layout(policy.model, longest=max(tree.longest for tree in trees))
    with torch.no_grad():
        new = tree_logps(policy.model, trees, layout=layout).sums()
        with policy.model.disable_adapter():
            old = tree_logps(policy.model, trees, layout=layout).sums()
    return float((new - old).mean())


def test_fp16_learns_and_an_overflow_costs_no_step(model, pairs, tmp_path, monkeypatch):
    import prefkit.training.loop as loop

    monkeypatch.setattr(loop, "FP16_SCALE", 2.0**60)  # sure to overflow at first
    result = train(model, pairs, settings(dtype="float16", epochs=4), out=tmp_path / "half")
    exact = train(model, pairs, settings(epochs=4), out=tmp_path / "full")
    assert result.steps == exact.steps
    assert result.last_loss == pytest.approx(exact.last_loss, abs=0.05)


def test_a_model_in_memory_a_data_set_and_rows_as_dictionaries(model, pairs, tmp_path):
    import datasets

    rows = [
        {"prompt": p.prompt.text, "chosen": p.chosen[-1].text, "rejected": p.rejected[-1].text}
        for p in pairs[:10]
    ]
    policy = load_policy(model, dtype="float32", device="cpu")
    result = train(
        loaded_policy(policy.model, policy.tokenizer),
        datasets.Dataset.from_list(rows),
        settings(),
        out=tmp_path / "a",
    )
    assert result.n_rows == 10
    named = train(model, rows, settings(), out=tmp_path / "b")
    one = load_file(result.folder / "adapter_model.safetensors")
    two = load_file(named.folder / "adapter_model.safetensors")
    assert all(torch.equal(one[name], two[name]) for name in two)


def test_full_fine_tuning_writes_a_model_that_loads(model, pairs, tmp_path):
    result = train(
        model, pairs, settings(method="full", learning_rate=1e-3, epochs=2), out=tmp_path
    )
    assert result.adapter is None
    assert result.ln2_gap is not None
    assert result.ln2_gap < 1e-6
    assert load_policy(str(result.folder), device="cpu").digest != result.model_digest


def test_the_best_state_is_kept_and_patience_stops(model, pairs, tmp_path):
    """The held-out pairs are labelled the other way round: the better it learns, the worse."""
    turned = [replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in pairs[36:]]
    plan = settings(
        epochs=8, batch_size=6, learning_rate=5e-3, evaluate_every=2, patience=2, keep_best=True,
        n_samples=2, warmup=0.0,
    )  # fmt: skip
    result = train(model, pairs[:36], plan, out=tmp_path, heldout=turned)
    evaluations = lines(tmp_path, "evaluations.jsonl")
    assert result.steps == 6, "the first evaluation is the best, two more are waited for"
    best = min(evaluations, key=lambda line: line["loss"])
    assert result.best_step == best["step"]
    assert all(line["entropy"] > 0 for line in evaluations)
    samples = lines(tmp_path, "samples.jsonl")
    assert len(samples) == 2 * len(evaluations)
    again = train(
        model, pairs[:36], plan.model_copy(update={"epochs": 1}), out=tmp_path / "x",
        heldout=pairs[36:],
    )  # fmt: skip
    assert again.n_heldout == 12


def test_a_hard_loss_refuses_a_soft_label_and_says_how_to_go_on(model, pairs, tmp_path):
    from prefkit.training.losses import losses

    hard = next(name for name in losses.names() if losses.get(name).hard)
    soft = [replace(pair, p=0.7) for pair in pairs[:6]]
    with pytest.raises(ConfigError, match=soft[0].id) as caught:
        train(model, soft, settings(loss=hard), out=tmp_path)
    assert "labels=hard" in (caught.value.hint or "")
    result = train(model, soft, settings(loss=hard, labels="hard"), out=tmp_path)
    assert result.n_rows == 6


def test_one_row_cannot_be_compared_with_anothers(model, pairs, tmp_path):
    row = TrainRow("only", pairs[0].prompt, (pairs[0].chosen,), "unpaired")
    with pytest.raises(DataError, match="one prompt is not enough"):
        train(model, [row], settings(loss="kto"), out=tmp_path)


def test_both_sides_of_a_pair_borrow_from_another_prompt(model, pairs):
    """Sorted by id a pair's two answers are neighbours, and lent to each other z0 would rise with
    the chosen answers' own likelihood."""
    policy = load_policy(model, dtype="float32", device="cpu")
    read = read_rows(pairs, "unpaired").rows
    rows = encode_rows(policy.tokenizer, read, max_length=256)
    lent = with_mismatches(rows, 256)
    asked = {}
    for row in rows.rows:
        asked.setdefault(row.tree.branches[0].ids.tobytes(), set()).add(row.source.prompt.id)
    assert [row.id for row in lent.rows] == [row.id for row in rows.rows]
    for row in lent.rows:
        own, other = row.tree.branches
        assert row.source.prompt.id in asked[own.ids.tobytes()]
        assert asked[other.ids.tobytes()] - {row.source.prompt.id}
    again = with_mismatches(replace(rows, rows=rows.rows[::-1]), 256)
    for one, two in zip(lent.rows, again.rows[::-1], strict=True):
        assert (one.tree.branches[1].ids == two.tree.branches[1].ids).all(), "order is nothing"


def test_held_out_rows_that_are_all_dropped_are_told_before_a_run_waits_for_them(
    model, pairs, tmp_path
):
    same = [replace(pair, rejected=pair.chosen) for pair in pairs[:3]]
    with pytest.raises(ConfigError, match=r"there are none \(3 identical\)"):
        train(model, pairs, settings(evaluate_every=2), out=tmp_path, heldout=same)


def test_a_result_of_another_version_is_made_again(model, pairs, tmp_path):
    one = train(model, pairs[:4], settings(), out=tmp_path)
    manifest = tmp_path / "train.json"
    stored = json.loads(manifest.read_text())
    del stored["result"]["heldout_dropped"]
    manifest.write_text(json.dumps(stored))
    two = train(model, pairs[:4], settings(), out=tmp_path)
    assert one.digest == two.digest
    assert "heldout_dropped" in json.loads(manifest.read_text())["result"]


def test_every_row_is_trained_on_held_out_or_counted_by_its_reason(model, pairs, tmp_path):
    rows = [replace(p, rejected=p.chosen) if i % 3 == 0 else p for i, p in enumerate(pairs)]
    result = train(model, rows, settings(heldout_share=0.4, max_steps=1), out=tmp_path)
    counts = result.dropped, result.heldout_dropped
    assert all(counts)
    assert result.n_rows + result.n_heldout + sum(sum(c.values()) for c in counts) == len(rows)
    assert "kept; dropped: " in result.facts()["held-out rows"]
    assert result.to_json()["heldout_dropped"] == result.heldout_dropped


@pytest.mark.parametrize("dtype", ["float64", "float16", "float32"])
def test_a_model_in_memory_trains_in_its_own_precision(model, pairs, tmp_path, monkeypatch, dtype):
    scales = []
    collect = Gradient.collect
    monkeypatch.setattr(
        Gradient, "collect", lambda self, rows: scales.append(self.scale) or collect(self, rows)
    )
    policy = load_policy(model, dtype=dtype, device="cpu")
    result = train(
        loaded_policy(policy.model, policy.tokenizer), pairs[:8], settings(dtype="auto"),
        out=tmp_path,
    )  # fmt: skip
    assert (min(scales) > 1) == (dtype == "float16")
    assert result.ln2_gap is not None
    assert result.ln2_gap < (5e-3 if dtype == "float16" else 1e-6)


def test_a_model_in_memory_is_given_back_and_trains_again(model, pairs, tmp_path):
    policy = load_policy(model, dtype="float32", device="cpu")
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    given = loaded_policy(policy.model, policy.tokenizer)
    one = train(given, pairs, settings(), out=tmp_path / "a")
    after = policy.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    two = train(given, pairs, settings(), out=tmp_path / "b")
    assert one.digest == two.digest
    train(given, pairs, settings(method="prompt"), out=tmp_path / "c")
    three = train(given, pairs, settings(), out=tmp_path / "d")
    assert one.digest == three.digest


def test_a_step_lasts_until_its_numbers_are_here(model, pairs, tmp_path, monkeypatch):
    """On a GPU a step is begun in milliseconds and done much later: tokens/s count to the end."""
    import prefkit.training.logged as logged

    to_host = logged.to_host
    monkeypatch.setattr(logged, "to_host", lambda *given: time.sleep(0.4) or to_host(*given))
    plan = settings(batch_size=8, log_every=2, tokens_at_once=4000, max_steps=4)
    train(model, pairs, plan, out=tmp_path)
    assert all(line["seconds"] >= 0.2 for line in lines(tmp_path))


def test_four_bit_weights_keep_their_log_probs_apart(model, pairs, tmp_path):
    stores = {}
    for method, reference in (("lora", "base"), ("qlora", "base"), ("qlora", model)):
        plan = make_plan(
            model, pairs[:4], settings(method=method, reference=reference,
            reference_store=str(tmp_path)), out=tmp_path, start=None, heldout=None,
            constraints=(), mapping=None, progress=silent,
        )  # fmt: skip
        stores[method, reference] = plan.store().folder
    assert stores["qlora", "base"] != stores["lora", "base"]
    assert stores["qlora", model] == stores["lora", "base"], "another model is loaded whole"


def test_positions_end_where_the_model_says_under_whatever_name(model, pairs, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = load_policy(model, device="cpu").tokenizer
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=24, n_embd=16, n_layer=1, n_head=2,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    for name, method in (("a", "lora"), ("b", "prompt")):
        result = train(
            loaded_policy(GPT2LMHeadModel(config).eval(), tokenizer),
            pairs[:8],
            settings(method=method, n_virtual_tokens=4, max_length=256, overlong="prompt"),
            out=tmp_path / name,
        )
        assert result.n_truncated + sum(result.dropped.values()) > 0


def test_a_log_prob_in_the_store_that_is_no_number_is_scored_again(model, pairs, tmp_path):
    plan = settings(reference=model, reference_store=str(tmp_path / "store"))
    whole = train(model, pairs[:6], plan, out=tmp_path / "a")
    made = make_plan(
        model, pairs[:6], plan, out=tmp_path, start=None, heldout=None, constraints=(),
        mapping=None, progress=silent,
    )  # fmt: skip
    store = made.store()
    keys = [key for tree in made.trees for key in logp_keys(tree)]
    store.add({key: np.full_like(value, np.nan) for key, value in store.find(keys).items()})
    again = train(model, pairs[:6], plan, out=tmp_path / "b")
    assert again.digest == whole.digest


def test_between_log_steps_nothing_is_read_from_the_device(model, pairs, tmp_path, monkeypatch):
    """With log_every=3 the tables of three steps are copied together; the lines are the same."""
    copies = []
    import prefkit.training.logged as logged

    to_host = logged.to_host
    monkeypatch.setattr(
        logged, "to_host", lambda *given: copies.append(len(collected)) or to_host(*given)
    )
    collected = []
    collect = Gradient.collect
    monkeypatch.setattr(
        Gradient, "collect", lambda self, rows: collected.append(1) or collect(self, rows)
    )
    plan = settings(batch_size=8, log_every=3, tokens_at_once=4000)
    train(model, pairs, plan, out=tmp_path / "three")
    assert copies == [3, 6], "one copy for all that waits"
    monkeypatch.undo()
    train(model, pairs, plan.model_copy(update={"log_every": 1}), out=tmp_path / "one")
    for a, b in zip(lines(tmp_path / "three"), lines(tmp_path / "one"), strict=True):
        assert a["loss"] == b["loss"]
        assert a["grad_norm"] == b["grad_norm"]


def noisy_model(kind, vocabulary):
    """A random model whose configuration drops half of everything."""
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {
        "llama": {"attention_dropout": 0.5, "num_key_value_heads": 2, "intermediate_size": 32},
        "opt": {"dropout": 0.5, "attention_dropout": 0.5, "ffn_dim": 32, "word_embed_proj_dim": 16},
        "gpt_bigcode": {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5},
        "starcoder2": {"residual_dropout": 0.5, "embedding_dropout": 0.5, "num_key_value_heads": 2},
    }[kind]
    config = AutoConfig.for_model(
        kind, vocab_size=vocabulary, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        pad_token_id=0, bos_token_id=None, eos_token_id=1, **shape,
    )  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("kind", ["llama", "opt", "gpt_bigcode", "starcoder2"])
def test_a_base_models_own_dropout_is_off(model, pairs, tmp_path, kind):
    """Layers drop weights and activations where the configuration says so; training must not."""
    tokenizer = load_policy(model, device="cpu").tokenizer
    noisy = loaded_policy(noisy_model(kind, len(tokenizer)), tokenizer)
    found = train(noisy, pairs[:8], settings(max_length=512), out=tmp_path / "a")
    assert found.ln2_gap is not None
    assert found.ln2_gap < 1e-6
    again = train(noisy, pairs[:8], settings(max_length=512, tokens_at_once=16), out=tmp_path / "b")
    assert again.last_loss == pytest.approx(found.last_loss, rel=1e-4), "no step drew anything"


def test_a_model_in_memory_is_as_it_was(model, pairs, tmp_path):
    tokenizer = load_policy(model, device="cpu").tokenizer
    noisy = noisy_model("opt", len(tokenizer)).train()
    noisy.lm_head.weight.requires_grad_(False)
    rates = [module.p for module in noisy.modules() if isinstance(module, torch.nn.Dropout)]
    rates += [layer.dropout for layer in noisy.model.decoder.layers]
    wanted = {name: p.requires_grad for name, p in noisy.named_parameters()}
    plan = settings(activation_checkpointing=True)
    train(loaded_policy(noisy, tokenizer), pairs[:8], plan, out=tmp_path)
    after = [module.p for module in noisy.modules() if isinstance(module, torch.nn.Dropout)]
    after += [layer.dropout for layer in noisy.model.decoder.layers]
    assert after == rates
    assert 0.5 in after
    assert {name: p.requires_grad for name, p in noisy.named_parameters()} == wanted
    assert noisy.training
    assert not noisy.is_gradient_checkpointing


@pytest.mark.parametrize(
    "change",
    [{"loss": {"sigmoid": 0.5}}, {"wpo": True}, {"loss_params": {"margin": 1.0}}],
    ids=str,
)
def test_a_first_loss_that_need_not_be_ln_2_is_not_said_to_miss_it(model, pairs, tmp_path, change):
    rows = [replace(pair, margin=1.0) for pair in pairs[:8]]
    result = train(model, rows, settings(**change), out=tmp_path)
    assert result.ln2_gap is None
    assert not any("ln 2" in alarm for alarm in result.alarms)


def test_a_constraint_in_double_precision_is_taken(model, pairs, tmp_path):
    def calm(logps, rows):
        scores = torch.as_tensor(np.ones(len(rows)))
        return scores * logps.policy[:, 0].exp()

    result = train(model, pairs[:8], settings(), out=tmp_path, constraints=[calm])
    assert np.isfinite(result.last_loss)


def test_a_mixture_logs_its_parts_whose_sum_is_the_loss(model, pairs, tmp_path):
    def calm(logps, rows):
        return 0.1 * logps.policy[:, 0].exp()

    plan = settings(loss={"sigmoid": 1.0, "nll": 0.2}, batch_size=8)
    train(model, pairs, plan, out=tmp_path, constraints=[calm])
    for line in lines(tmp_path):
        parts = {name: value for name, value in line.items() if name.startswith("loss/")}
        assert set(parts) == {"loss/sigmoid", "loss/nll", "loss/calm"}
        assert sum(parts.values()) == pytest.approx(line["loss"], abs=1e-6)


def test_sft_in_a_mixture_imitates_the_answer_that_won(model, pairs, tmp_path):
    """Swapped, with p = 0 for 1, it is the same answer and the same divisor."""
    won = [replace(pair, p=1.0) for pair in pairs[:8]]
    lost = [replace(pair, chosen=pair.rejected, rejected=pair.chosen, p=0.0) for pair in won]
    plan = settings(loss={"sigmoid": 1.0, "sft": 1.0}, batch_size=4, order="given")
    for name, rows in (("lost", lost), ("won", won)):
        train(model, rows, plan, out=tmp_path / name)
    for a, b in zip(lines(tmp_path / "lost"), lines(tmp_path / "won"), strict=True):
        assert a["loss/sft"] == pytest.approx(b["loss/sft"], rel=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


def test_norms_and_biases_do_not_decay():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    masters = Masters(model)
    for kind in ("adamw", "sgd"):
        optimizer = make_optimizer(settings(optimizer=kind, weight_decay=0.1), masters)
        masters.zero()
        masters.offer()
        optimizer.step()
    changed = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    assert changed == {"0.weight"}
