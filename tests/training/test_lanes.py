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


def test_results_come_in_the_order_of_the_items():
    def work(item):
        time.sleep(0.02 if item % 2 == 0 else 0)
        return item

    assert list(Lanes(2).map(work, range(20))) == list(range(20))


def test_two_items_are_at_work_together():
    both = threading.Barrier(2)
    assert list(Lanes(2).map(lambda _: both.wait(timeout=30) >= 0, range(4))) == [True] * 4


def test_one_lane_calls_each_item_when_its_turn_comes():
    seen = []
    results = Lanes(1).map(seen.append, range(3))
    assert seen == []
    next(results)
    assert seen == [0]


def test_a_lane_has_its_share_of_the_threads_and_the_caller_keeps_its_own(two_threads):
    assert list(Lanes(2).map(lambda _: torch.get_num_threads(), range(3))) == [1, 1, 1]
    assert torch.get_num_threads() == 2
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2]


def test_a_fault_in_a_lane_reaches_the_caller(two_threads):
    def work(item):
        if item == 1:
            raise ValueError("pack 1")
        return item

    results = Lanes(2).map(work, range(50))
    assert next(results) == 0
    with pytest.raises(ValueError, match="pack 1"):
        list(results)
    assert torch.get_num_threads() == 2


def number_of_lanes(tiny_model_dir, *, world=1, constraints=(), rope=None, **changes):
    settings = TrainSettings(device="cpu", dtype="float32", **changes)
    policy = load_policy(resolve_model(str(tiny_model_dir)), dtype="float32", device="cpu")
    model = prepare_model(policy, settings, None, 0)
    if rope:
        model.config.rope_parameters = {"rope_type": rope}
    objective = SimpleNamespace(constraints=constraints)
    plan = SimpleNamespace(settings=settings, objective=objective)
    return lanes_for(plan, model, SimpleNamespace(world=world)).n


def test_an_adapter_on_a_cpu_trains_in_two_lanes(tiny_model_dir, two_threads):
    assert number_of_lanes(tiny_model_dir) == LANES == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"world": 2},
        {"constraints": (print,)},
        {"rope": "dynamic"},
        {"method": "full"},
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


def test_one_core_has_one_lane(tiny_model_dir, two_threads):
    torch.set_num_threads(1)
    assert number_of_lanes(tiny_model_dir) == 1
