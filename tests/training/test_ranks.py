"""Several processes train what one trains: really launched, over the loopback, by accelerate."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import rank_runs
from hypothesis import given
from hypothesis import strategies as st
from rank_runs import BASE, CASES, OTHERS, PARITY, RESUMED, example_pairs, launch, train_case
from safetensors.torch import load_file

from prefkit.core.errors import ConfigError, TrainingError
from prefkit.core.records import Example
from prefkit.formats.schema import to_table
from prefkit.formats.tables import write_table
from prefkit.training import TrainSettings
from prefkit.training.packs import packs_of_ranks
from prefkit.training.ranks import Ranks, check_launch, join_ranks

KINDS = ("ddp", "fsdp")
LAUNCHED = {"ddp": PARITY | OTHERS, "fsdp": CASES}
SCRIPT = rank_runs.__file__
GAP = 1e-5


@pytest.fixture(scope="module")
def model(tiny_model_dir):
    return str(tiny_model_dir)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def alone(model, out):
    """What one process makes of a case: its folder, trained once."""

    def folder(name):
        path = out / "alone" / name
        if not path.exists():
            train_case(model, path, CASES[name])
        return path

    return folder


@pytest.fixture(scope="module")
def together(model, out):
    """The folder in which two processes trained all cases of a kind of launch, once, and had a run
    killed at last."""

    def folder(kind):
        path = out / kind
        if path.exists():
            return path
        names = [*LAUNCHED[kind], "unbroken", "not-finite"]
        if kind == "ddp":
            names.append("out-of-memory")  # under FSDP2 it ends the launch
        done = launch(SCRIPT, model, path, *names, "killed", fsdp=kind == "fsdp")
        assert (path / "cut" / "metrics.jsonl").exists(), done.stderr[-4000:]
        return path

    return folder


def weights(folder):
    (path,) = [*folder.glob("adapter/*.safetensors"), *folder.glob("model/*.safetensors")]
    return load_file(path)


def lines(folder, name="metrics.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in KINDS for name in LAUNCHED[kind]]
)
def test_two_processes_end_where_one_does(kind, name, alone, together):
    one, two = alone(name), together(kind) / name
    expected, found = weights(one), weights(two)
    assert found.keys() == expected.keys()
    gaps = {key: float((found[key] - expected[key]).abs().max()) for key in expected}
    assert max(gaps.values()) <= GAP, gaps
    # AdamW and clipping forgive a wrong scale of the gradient; its norm does not.
    for ours, theirs in zip(lines(two), lines(one), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
        assert ours["n_rows"] == theirs["n_rows"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_evaluations_samples_and_early_stop_are_those_of_one_process(kind, alone, together):
    one, two = alone("held-out"), together(kind) / "held-out"
    for ours, theirs in zip(
        lines(two, "evaluations.jsonl"), lines(one, "evaluations.jsonl"), strict=True
    ):
        assert ours["step"] == theirs["step"]
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4)
    texts = [[line["text"] for line in lines(x, "samples.jsonl")] for x in (one, two)]
    assert texts[0] == texts[1]
    best = [json.loads((x / "train.json").read_text())["result"]["best_step"] for x in (one, two)]
    assert best[0] == best[1]
    assert {p.name for p in two.iterdir()} == {p.name for p in one.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_it_goes_on_to_the_same_bits_from_the_command_line(kind, model, together, tmp_path):
    """With dropout, so every rank's random state counts; stdout is rank 0's one line."""
    assert not (together(kind) / "cut" / "train.json").exists()
    cut = tmp_path / "cut"
    shutil.copytree(together(kind) / "cut", cut)
    data = tmp_path / "pairs.parquet"
    write_table(data, to_table(example_pairs(), Example))
    changes = {**BASE, **RESUMED}
    overrides = [f"--set={key}={json.dumps(value)}" for key, value in changes.items()]
    command = ["train", data, "--model", model, "--out", cut, "--json", *overrides]
    done = launch("-m", "prefkit", *command, fsdp=kind == "fsdp")
    assert done.returncode == 0, done.stderr[-4000:]
    said = [line for line in done.stdout.splitlines() if line.strip()]
    assert len(said) == 1, done.stdout
    assert json.loads(said[0])["resumed_from"] == 6
    expected, found = weights(together(kind) / "unbroken"), weights(cut)
    assert all((found[key] == expected[key]).all() for key in expected)
    assert not (cut / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_one_process_goes_on_from_a_whole_checkpoint_only(kind, model, together, tmp_path):
    cut = tmp_path / "cut"
    shutil.copytree(together(kind) / "cut", cut)
    if kind == "ddp":
        assert train_case(model, cut, RESUMED).resumed_from == 6
        return
    with pytest.raises(TrainingError, match="another number or kind of processes"):
        train_case(model, cut, RESUMED)
    assert (cut / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_is_not_finite_stops_all_ranks_and_one_says_so(kind, together):
    folder = together(kind)
    told = [json.loads((folder / f"not-finite-{rank}.json").read_text()) for rank in (0, 1)]
    assert [fault["kind"] for fault in told] == ["TrainingError", "ToldElsewhere"]
    assert "is not finite; rows:" in told[0]["message"]
    assert told[0]["message"] in told[1]["message"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_one_rank_out_of_memory_ends_all_and_names_the_new_budget(kind, model, together, tmp_path):
    folder = together("ddp")
    if kind == "fsdp":
        folder = tmp_path
        done = launch(SCRIPT, model, folder, "out-of-memory", fsdp=True)
        assert done.returncode != 0
    told = json.loads((folder / "out-of-memory-1.json").read_text())
    assert told["kind"] == "EnvironmentFault"
    assert "rank 1: not enough memory for a pack of" in told["message"]
    assert "tokens_at_once=" in told["hint"]
    if kind == "ddp":
        other = json.loads((folder / "out-of-memory-0.json").read_text())
        assert other["kind"] == "ToldElsewhere"
    assert not (folder / "out-of-memory" / "train.json").exists()


@pytest.mark.slow
def test_a_fault_that_only_rank_0_sees_is_told_once(model, tmp_path):
    """The folder of another run: the others hear of it instead of waiting for rank 0."""
    data = tmp_path / "pairs.parquet"
    write_table(data, to_table(example_pairs(), Example))
    (tmp_path / "train.json").write_text('{"run": "another", "result": {}}')
    command = ["train", data, "--model", model, "--out", tmp_path, "--set", "device=cpu"]
    done = launch("-m", "prefkit", *command)
    assert done.returncode != 0
    assert done.stderr.count("holds the result of another run") == 1, done.stderr[-4000:]


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=40),
    budget=st.integers(8, 100),
    world=st.integers(1, 5),
)
def test_ranks_share_all_rows_evenly_within_the_budget(sizes, budget, world):
    """Greedy assignment: loads differ by no more than the largest row."""
    ranks = packs_of_ranks(sizes, budget, world)
    assert len(ranks) == world
    assert sorted(i for packs in ranks for pack in packs for i in pack) == list(range(len(sizes)))
    for pack in (pack for packs in ranks for pack in packs):
        assert len(pack) == 1 or sum(sizes[i] for i in pack) <= budget
    loads = [sum(sizes[i] for pack in packs for i in pack) for packs in ranks]
    assert max(loads) - min(loads) <= max(sizes)


@pytest.mark.parametrize(
    ("environment", "changes", "said"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, {}, "ACCELERATE_USE_DEEPSPEED"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, {}, "PARALLELISM_CONFIG"),
        ({"ACCELERATE_USE_FSDP": "true"}, {}, "FSDP 1"),
        (
            {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"},
            {},
            "fsdp_offload_params",
        ),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, {"method": "qlora"}, "4-bit"),
        ({}, {"device": "cuda:0"}, "every process would use that one GPU"),
    ],
)
def test_what_accelerate_can_and_prefkit_cannot_is_refused(monkeypatch, environment, changes, said):
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    sharded = "ACCELERATE_USE_FSDP" in environment
    with pytest.raises(ConfigError, match=said):
        check_launch(TrainSettings(**changes), Ranks(world=2, sharded=sharded))


def test_one_process_joins_nothing():
    assert "WORLD_SIZE" not in os.environ
    ranks = join_ranks(TrainSettings())
    assert (ranks.rank, ranks.world, ranks.leads) == (0, 1, True)
    check_launch(TrainSettings(device="cuda:0"), ranks)
    assert ranks.gather("x") == ["x"]
