"""Lanes give results in order, whatever ends first, and leave no trace in the process."""

import threading
import time
from types import SimpleNamespace

import pytest
import torch

from prefkit.policy.load import load_policy
from prefkit.policy.resolve import resolve_model
from prefkit.training.adapter import prepare_model
from prefkit.training.lanes import LANES, Lanes, lanes_for
from prefkit.training.settings import TrainSettings


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def test_each_item_comes_with_its_result():
    def work(item):
        time.sleep(0.02 if item % 2 == 0 else 0)
        return item * 10

    assert dict(Lanes(2).map(work, range(20))) == {n: n * 10 for n in range(20)}


def test_two_items_are_at_work_together():
    both = threading.Barrier(2)
    assert len(list(Lanes(2).map(lambda _: both.wait(timeout=30), range(4)))) == 4


def test_one_lane_calls_each_item_when_its_turn_comes():
    seen = []
    results = Lanes(1).map(seen.append, range(3))
    assert seen == []
    assert next(results) == (0, None)
    assert seen == [0]


def test_a_split_is_even_and_keeps_the_two_largest_apart():
    first, second = Lanes(2).split([80, 527, 372, 82, 291, 232, 164, 163])
    assert first == [1, 5, 7]  # 527, 232, 163: its largest first
    assert second == [0, 3, 6, 4, 2]  # 80, 82, 164, 291, 372: its smallest first
    assert Lanes(1).split([3, 1, 2]) == [[0, 1, 2]]
    assert Lanes(2).split([7]) == [[0]]


def test_a_single_item_has_all_threads(two_threads):
    assert list(Lanes(2).map(lambda _: torch.get_num_threads(), [0])) == [(0, 2)]


def test_a_lane_has_its_share_of_the_threads_and_the_caller_keeps_its_own(two_threads):
    found = Lanes(2).map(lambda _: torch.get_num_threads(), range(3))
    assert dict(found) == {0: 1, 1: 1, 2: 1}
    assert torch.get_num_threads() == 2
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2]


@pytest.mark.parametrize("faulty", [1, 98])
def test_a_fault_in_a_lane_soon_reaches_the_caller(two_threads, faulty):
    done = []

    def work(item):
        if item == faulty:
            raise ValueError(f"pack {item}")
        time.sleep(0.02)
        done.append(item)

    with pytest.raises(ValueError, match=f"pack {faulty}"):
        list(Lanes(2).map(work, range(100)))
    assert len(done) < 10
    assert torch.get_num_threads() == 2


def number_of_lanes(
    tiny_model_dir, *, world=1, constraints=(), rope=None, longest=1024, adapter=None, **changes
):
    settings = TrainSettings(device="cpu", dtype="float32", **changes)
    policy = load_policy(resolve_model(str(tiny_model_dir)), dtype="float32", device="cpu")
    model = prepare_model(policy, settings, adapter, 0)
    if rope:
        model.config.rope_parameters = {"rope_type": rope}
    objective = SimpleNamespace(constraints=constraints)
    plan = SimpleNamespace(settings=settings, objective=objective, longest=longest)
    return lanes_for(plan, model, SimpleNamespace(world=world)).n


def test_an_adapter_on_a_cpu_trains_in_two_lanes(tiny_model_dir, two_threads):
    assert number_of_lanes(tiny_model_dir) == LANES == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"world": 2},
        {"constraints": (print,)},
        {"rope": "dynamic"},
        {"longest": 1025},
        {"method": "full"},
        {"method": "prompt", "activation_checkpointing": True},
        {"reference": "ema"},
        {"lora": {"dropout": 0.1}},
        {"method": "loha", "method_options": {"module_dropout": 0.1}},
    ],
    ids=str,
)
def test_packs_that_are_not_independent_or_too_large_take_turns(
    tiny_model_dir, two_threads, changes
):
    assert number_of_lanes(tiny_model_dir, **changes) == 1


def test_dropout_of_an_adapter_that_training_goes_on_with_is_seen(
    tiny_model_dir, two_threads, tmp_path
):
    settings = TrainSettings(
        device="cpu", dtype="float32", method="loha", method_options={"module_dropout": 0.1}
    )
    policy = load_policy(resolve_model(str(tiny_model_dir)), dtype="float32", device="cpu")
    prepare_model(policy, settings, None, 0).save_pretrained(tmp_path)
    assert number_of_lanes(tiny_model_dir, method="loha", adapter=tmp_path) == 1


def test_one_core_has_one_lane(tiny_model_dir, two_threads):
    torch.set_num_threads(1)
    assert number_of_lanes(tiny_model_dir) == 1
