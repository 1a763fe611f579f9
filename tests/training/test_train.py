"""The loop on a tiny model: exact where exactness is promised."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from prefkit.core.errors import ConfigError, DataError, TrainingError, WorkspaceError
from prefkit.core.files import holding
from prefkit.core.records import Example
from prefkit.core.rng import derive_seed
from prefkit.formats.schema import to_table
from prefkit.formats.tables import write_table
from prefkit.policy.load import load_policy, policy_digest
from prefkit.policy.resolve import resolve_model
from prefkit.policy.template import encode_tree
from prefkit.training import LoraSettings, TrainSettings, train
from prefkit.training.adapter import prepare_model
from prefkit.training.card import vllm_rank
from prefkit.training.optimiser import learning_rate


def settings(**changes):
    values = {"dtype": "float32", "device": "cpu", "learning_rate": 5e-3, "epochs": 2}
    values |= {"trackers": [], "reference_store": "none"}
    return TrainSettings(**{**values, **changes})


def weights(result):
    return load_file(result.adapter / "adapter_model.safetensors")


def lines(out):
    """metrics.jsonl without the clock."""
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    clock = ("seconds", "tokens_per_second")
    return [{k: v for k, v in line.items() if k not in clock} for line in found]


@pytest.fixture(scope="module")
def model(tiny_model_dir):
    return str(tiny_model_dir)


@pytest.mark.parametrize(
    ("dtype", "most"), [("float64", 1e-6), ("float32", 1e-6), ("bfloat16", 5e-3)]
)
def test_the_first_loss_is_ln_2_whatever_the_packs(model, pairs, tmp_path, dtype, most):
    """The reference is scored in other packs than the step's, and read from a store."""
    plan = settings(
        dtype=dtype, epochs=1, tokens_at_once=100, reference_store=str(tmp_path / "store")
    )
    result = train(model, pairs, plan, out=tmp_path / "first")
    assert result.ln2_gap is not None
    assert result.ln2_gap <= most
    wide = plan.model_copy(update={"tokens_at_once": 4000, "seed": 3})
    again = train(model, pairs, wide, out=tmp_path / "second")
    assert again.ln2_gap is not None
    assert again.ln2_gap <= most


def test_a_rule_is_learnt_and_holds_on_pairs_never_seen(model, pairs, tmp_path):
    result = train(model, pairs[:36], settings(epochs=6), out=tmp_path, heldout=pairs[36:])
    assert result.last_loss < result.first_loss
    assert result.n_heldout == 12
    assert result.heldout_accuracy is not None
    assert result.heldout_accuracy > 0.95


def test_how_a_step_is_split_changes_nothing_but_rounding(model, pairs, tmp_path):
    """48 pairs of unequal length and weight in one step: whole, and in packs of some two pairs."""
    one = train(
        model, pairs, settings(batch_size=48, tokens_at_once=9000, epochs=1), out=tmp_path / "one"
    )
    many = train(
        model, pairs, settings(batch_size=48, tokens_at_once=100, epochs=1), out=tmp_path / "many"
    )
    a, b = lines(tmp_path / "one")[0], lines(tmp_path / "many")[0]
    assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-6)
    assert one.steps == many.steps == 1


def test_a_weight_of_two_is_the_row_twice(model, pairs, tmp_path):
    plain = [replace(pair, weight=1.0) for pair in pairs[:6]]
    whole = settings(batch_size=8, epochs=1)
    heavy = [replace(plain[0], weight=2.0), *plain[1:]]
    train(model, heavy, whole, out=tmp_path / "heavy")
    train(model, [plain[0], *plain], whole, out=tmp_path / "twice")
    a, b = lines(tmp_path / "heavy")[0], lines(tmp_path / "twice")[0]
    assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-6)


def test_the_gradient_of_a_step_equals_autograd_on_the_whole_formula(model, pairs, tmp_path):
    """The first step's gradient norm against Σ w·loss / Σ w written out on one fp32 model."""
    plan = settings(batch_size=48, epochs=1, max_grad_norm=1e9)
    train(model, pairs, plan, out=tmp_path)
    policy = load_policy(model, dtype="float32", device="cpu")
    adapted = prepare_model(policy, plan, None, derive_seed("adapter", 0))
    total = torch.zeros(())
    for pair in pairs:
        now = logps_of(adapted, policy.tokenizer, pair)
        delta = 0.1 * ((now[0] - now[1]) - (now[0] - now[1]).detach())
        p = pair.p
        loss = -p * torch.nn.functional.logsigmoid(delta)
        loss = loss - (1 - p) * torch.nn.functional.logsigmoid(-delta)
        total = total + pair.weight * loss
    (total / sum(pair.weight for pair in pairs)).backward()
    grads = [q.grad for q in adapted.parameters() if q.grad is not None]
    norm = torch.sqrt(sum((g**2).sum() for g in grads)).item()
    assert lines(tmp_path)[0]["grad_norm"] == pytest.approx(norm, rel=1e-3)


def logps_of(model, tokenizer, pair):
    """log p of both answers by transformers' own forward and a full softmax: the naive way."""
    found = []
    for side in (pair.chosen, pair.rejected):
        tree = encode_tree(tokenizer, pair.prompt, [side])
        ids = torch.tensor([[*tree.prompt, *tree.branches[0].ids]])
        logits = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
        n = len(tree.prompt)
        found.append(logits[n - 1 :].gather(1, ids[0, n:, None]).sum())
    return torch.stack(found)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(model, pairs, tmp_path):
    one, two = (train(model, pairs, settings(), out=tmp_path / name) for name in "ab")
    assert one.run == two.run
    assert one.digest == two.digest
    other = train(model, pairs, settings(seed=1), out=tmp_path / "c")
    assert other.digest != one.digest


def test_the_callers_random_state_is_left_alone(model, pairs, tmp_path):
    before = torch.get_rng_state()
    train(model, pairs[:8], settings(epochs=1, lora=LoraSettings(dropout=0.1)), out=tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_finished_run_is_not_done_again_and_another_is_not_overwritten(model, pairs, tmp_path):
    calls = []
    first = train(model, pairs, settings(epochs=1), out=tmp_path)
    again = train(
        model, pairs, settings(epochs=1), out=tmp_path, progress=lambda *a: calls.append(a)
    )
    assert again == first
    assert calls == []
    with pytest.raises(WorkspaceError, match="another run"):
        train(model, pairs, settings(epochs=1, beta=0.3), out=tmp_path, overwrite=False)
    assert train(model, pairs, settings(epochs=1), out=tmp_path) == first
    other = train(model, pairs, settings(epochs=1, beta=0.3), out=tmp_path)
    assert other.digest != first.digest
    names = sorted(path.name for path in tmp_path.iterdir())
    assert {".lock", "adapter", "metrics.jsonl", "train.json"} <= set(names)
    assert not [name for name in names if "tmp" in name or name == "checkpoints"]


def test_the_adapter_loads_by_name_and_changes_the_model(model, pairs, tmp_path):
    result = train(model, pairs, settings(), out=tmp_path)
    config = json.loads((result.adapter / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    tensors = weights(result)
    assert all(key.startswith("base_model.model.model.layers.") for key in tensors)
    assert {key.rpartition(".lora_")[2] for key in tensors} == {"A.weight", "B.weight"}
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    card = (result.adapter / "README.md").read_text()
    assert result.model_digest in card
    assert "48" in card
    source = resolve_model(model)
    bare = load_policy(source, dtype="float32", device="cpu")
    adapted = load_policy(source, adapter=result.adapter, dtype="float32", device="cpu")
    with torch.no_grad():
        before, after = (
            logps_of(policy.model, bare.tokenizer, pairs[0])[0] for policy in (bare, adapted)
        )
    assert abs(after - before) > 0.5
    assert adapted.digest == policy_digest(source, result.adapter) != bare.digest == source.digest


def test_training_goes_on_from_an_adapter_against_either_reference(model, pairs, tmp_path):
    first = train(model, pairs, settings(), out=tmp_path / "first")
    base = train(
        model, pairs, settings(epochs=1), out=tmp_path / "base", start_adapter=first.adapter
    )
    assert base.ln2_gap is None
    assert base.first_loss < 0.68, "measured against the base, the start is already ahead"
    start = train(
        model,
        pairs,
        settings(epochs=1, reference="start"),
        out=tmp_path / "start",
        start_adapter=first.adapter,
    )
    assert start.ln2_gap is not None
    assert start.ln2_gap < 2e-7


def test_a_start_that_was_not_given_is_no_reference(pairs, tmp_path):
    with pytest.raises(ConfigError, match="reference start is the adapter") as caught:
        train("./no-such-model", pairs, settings(reference="start"), out=tmp_path / "out")
    assert "--adapter DIR" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_settings_may_be_a_mapping_and_are_checked_as_everywhere(model, pairs, tmp_path):
    plain = settings(max_steps=1, lora=LoraSettings(r=4))
    given = plain.model_dump() | {"lora": {"r": 4}}
    assert train(model, pairs[:4], given, out=tmp_path / "a").run == (
        train(model, pairs[:4], plain, out=tmp_path / "b").run
    )
    for wrong, said in [
        ({"bta": 0.2}, "settings: unknown key 'bta'; did you mean 'beta'"),
        ({"lora": {"r": 0}}, "settings: lora.r is 0"),
        ({"divergence": "js", "loss": "simpo"}, "settings: divergence: simpo compares with no"),
        (["beta=0.2"], "settings is a list: expected TrainSettings or a mapping"),
    ]:
        with pytest.raises(ConfigError, match=said):
            train(model, pairs[:4], wrong, out=tmp_path / "c")
    assert not (tmp_path / "c").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("threads", "dropout"), [(1, 0.1), (2, 0.0)], ids=["one_lane_with_dropout", "two_lanes"]
)
def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(
    model, pairs, tmp_path, threads, dropout
):
    """SIGKILL after step 5 of 18, checkpoints every 2 steps, packs of 64 tokens."""
    data = tmp_path / "pairs.parquet"
    write_table(data, to_table(pairs, Example))
    script = (
        "import sys, torch, pyarrow.parquet as pq\n"
        "from prefkit.training import train, TrainSettings, LoraSettings\n"
        f"torch.set_num_threads({threads})\n"
        "s = TrainSettings(dtype='float32', device='cpu', learning_rate=5e-3, epochs=6,\n"
        f"    checkpoint_every=2, lora=LoraSettings(dropout={dropout}), trackers=[],\n"
        "    tokens_at_once=64,\n"
        "    reference_store=sys.argv[4])\n"
        "r = train(sys.argv[1], pq.read_table(sys.argv[2]), s, out=sys.argv[3],\n"
        "    progress=lambda *a: print(*a, flush=True))\n"
        "print('RESUMED', r.resumed_from)\n"
    )
    command = [sys.executable, "-c", script, model, str(data)]
    whole = tmp_path / "whole"
    subprocess.run([*command, str(whole), "none"], check=True, capture_output=True, timeout=300)

    cut = tmp_path / "cut"
    kept = str(tmp_path / "kept")
    child = subprocess.Popen([*command, str(cut), kept], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("training 5 "):
            os.kill(child.pid, signal.SIGKILL)
            break
    assert child.wait(timeout=60) == -signal.SIGKILL
    child.stdout.close()
    assert not (cut / "train.json").exists()
    assert not (cut / "adapter").exists()
    (cut / "adapter.tmp-4194305").mkdir()  # what a kill while writing the adapter leaves behind

    done = subprocess.run([*command, str(cut), kept], check=True, capture_output=True, timeout=300)
    said = done.stdout.decode()
    resumed = int(said.rpartition("RESUMED ")[2])
    assert resumed >= 4
    assert resumed % 2 == 0
    assert "scoring the reference" not in said, "the reference is kept"
    assert lines(cut) == lines(whole)
    name = "adapter/adapter_model.safetensors"
    assert (cut / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(p.name for p in cut.iterdir()) == sorted(p.name for p in whole.iterdir())


def test_two_killed_runs_in_one_folder_do_not_mix(model, pairs, tmp_path, monkeypatch):
    first, other = settings(checkpoint_every=4), settings(checkpoint_every=1000, seed=1)
    whole = train(model, pairs, first, out=tmp_path / "whole")

    def killed(*arguments, **named):
        raise KeyboardInterrupt

    for chosen in (first, other):
        with monkeypatch.context() as patch:
            patch.setattr("prefkit.training.loop.leave", killed)
            with pytest.raises(KeyboardInterrupt):
                train(model, pairs, chosen, out=tmp_path / "cut")
    result = train(model, pairs, first, out=tmp_path / "cut")
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert result.first_loss == whole.first_loss


def test_a_loss_that_stops_being_finite_stops_the_run_and_names_rows(model, pairs, tmp_path):
    with pytest.raises(TrainingError, match="not finite") as caught:
        train(model, pairs, settings(learning_rate=1e25, warmup=0.0), out=tmp_path)
    assert any(pair.id in caught.value.message for pair in pairs)
    assert "learning_rate" in (caught.value.hint or "")
    assert not (tmp_path / "adapter").exists()
    assert not (tmp_path / "train.json").exists()


def test_nothing_to_train_on_is_said_before_anything_is_written(model, pairs, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DataError, match="no rows"):
        train(model, [], settings(), out=out)
    same = [replace(pair, rejected=pair.chosen) for pair in pairs]
    with pytest.raises(DataError, match="all 48 rows were dropped \\(48 identical\\)"):
        train(model, same, settings(), out=out)
    with pytest.raises(ConfigError, match="no linear layer nope"):
        train(model, pairs, settings(lora=LoraSettings(targets=["nope"])), out=out)
    assert not out.exists() or not list(out.rglob("*adapter*"))


@pytest.mark.parametrize(("rank", "bound"), [(1, 64), (12, 64), (64, 64), (65, 128), (512, 512)])
def test_the_card_names_a_rank_that_vllm_takes(rank, bound):
    assert vllm_rank(rank) == bound


def test_rates_warm_up_and_fall_to_almost_nothing():
    plan = settings(warmup=0.2, learning_rate=1.0)
    linear = [learning_rate(plan, step, 10) for step in range(10)]
    assert linear[:2] == [0.5, 1.0]
    assert linear[2:] == pytest.approx([1 - i / 8 for i in range(8)])
    cosine = settings(warmup=0.0, schedule="cosine", learning_rate=1.0)
    assert learning_rate(cosine, 5, 10) == pytest.approx(0.5)
    assert all(
        learning_rate(settings(warmup=0.0, schedule=name), step, 7) > 0
        for name in ("linear", "cosine", "constant")
        for step in range(7)
    )


def test_settings_refuse_what_cannot_work():
    with pytest.raises(ValueError, match="did you mean 'sigmoid'"):
        TrainSettings(loss="sigmod")
    for values, said in [
        ({"loss_params": {"epsilom": 0.1}}, "takes no such parameter"),
        ({"loss": {"sigmoid": 1.0, "kto": 1.0}}, "no kind of rows in common"),
        ({"loss": {"sigmoid": 0.0}}, "not above 0"),
        ({"loss": {"sigmoid": 1.0, "nll": 0.2}, "ld_alpha": 0.5}, "ld_alpha: nll takes the like"),
        ({"loss": "kto", "divergence": "js"}, "kto has no other form"),
        ({"loss": "votes", "labels": "hard"}, "reads the raw votes"),
        ({"loss": "simpo", "divergence": "js"}, "simpo compares with no reference"),
        ({"loss": "robust", "loss_params": {"epsilon": 0.6}}, "outside its range"),
        ({"patience": 2}, "patience needs evaluate_every"),
        ({"loss": {}}, "names no loss"),
    ]:
        with pytest.raises(ValueError, match=said):
            TrainSettings(**values)
    assert TrainSettings(loss={"sigmoid": 1.0, "nll": 0.2}, divergence="js").divergence == "js"


def run_cli(*arguments):
    command = [sys.executable, "-m", "prefkit", "train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_the_command_trains_and_its_faults_cost_one_line(model, pairs, tmp_path):
    data = tmp_path / "pairs.parquet"
    write_table(data, to_table(pairs, Example))
    out = tmp_path / "out"
    common = [str(data), "--model", model, "--out", str(out)]
    done = run_cli(*common, "--set", "epochs=1", "--set", "device=cpu", "--json")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout.splitlines()[-1])
    assert value["n_rows"] == 48
    assert (out / "adapter" / "adapter_model.safetensors").is_file()
    assert value["adapter"] == str(out / "adapter")
    for arguments, said in [
        ([*common, "--set", "epoch=1"], "did you mean 'epochs'"),
        ([*common, "--set", "epochs=3"], "--overwrite"),
        ([str(tmp_path / "none.jsonl"), "--out", str(out)], "none.jsonl"),
        ([str(data), "--model", str(tmp_path), "--out", str(tmp_path / "o")], "config.json"),
    ]:
        failed = run_cli(*arguments)
        assert failed.returncode == 1
        assert said in failed.stderr
        assert "Traceback" not in failed.stderr


def test_importing_training_and_policy_loads_no_torch():
    code = (
        "import sys, prefkit, prefkit.training, prefkit.training.settings, prefkit.policy.resolve\n"
        "import prefkit.policy.template, prefkit.policy.load, prefkit.cli.train\n"
        "heavy = {'torch', 'transformers', 'peft', 'datasets', 'pandas'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_two_runs_in_one_folder_are_refused(model, pairs, tmp_path):
    out = tmp_path / "out"
    with holding(out / ".lock"), pytest.raises(WorkspaceError, match="another process"):
        train(model, pairs, settings(), out=out)
