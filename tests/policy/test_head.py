"""The tiled head against a plain log-softmax in the same precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from prefkit.policy.head import Tiles, head_logps

H, V, R = 5, 11, 2


def operands(n: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    return {
        "hidden": normal(n, H),
        "weight": normal(V, H),
        "bias": normal(V),
        "z": normal(n, R),
        "b": normal(V, R),
        "targets": torch.randint(0, V, (n,), generator=draw),
    }


def plain_logits(o: dict[str, Any], *, bias: bool, lora: bool, scale: float, cap: float | None):
    logits = o["hidden"] @ o["weight"].T
    if lora:
        logits = logits + o["z"] @ o["b"].T
    if bias:
        logits = logits + o["bias"]
    logits = logits * scale
    return logits if cap is None else cap * torch.tanh(logits / cap)


def plain(o: dict[str, Any], **finish: Any) -> torch.Tensor:
    logits = plain_logits(o, **finish)
    return logits.log_softmax(1).gather(1, o["targets"][:, None]).squeeze(1)


def tiled(o: dict[str, Any], *, bias: bool, lora: bool, **rest: Any) -> torch.Tensor:
    low_rank = (o["z"], o["b"]) if lora else None
    kept = o["bias"] if bias else None
    found = head_logps(o["hidden"], o["weight"], kept, o["targets"], low_rank=low_rank, **rest)
    return found.values


FINISHES = [
    {"bias": False, "lora": False, "scale": 1.0, "cap": None},
    {"bias": True, "lora": False, "scale": 1.0, "cap": None},
    {"bias": False, "lora": True, "scale": 0.25, "cap": None},
    {"bias": False, "lora": False, "scale": 1.0, "cap": 3.0},
    {"bias": True, "lora": True, "scale": 1.7, "cap": 2.0},
]
TRAINED = [("hidden",), ("hidden", "weight"), ("hidden", "bias", "b"), ("weight", "z", "b")]


def finish_id(finish: dict[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in finish.items())


@pytest.mark.parametrize("finish", FINISHES, ids=finish_id)
@pytest.mark.parametrize("trained", TRAINED, ids=lambda names: "+".join(names))
@pytest.mark.parametrize("tiles", [Tiles(1, 1), Tiles(2, 3), Tiles(7, 11), Tiles(64, 64)])
def test_gradients_are_those_of_finite_differences(finish, trained, tiles):
    o = operands(7)
    for name in trained:
        o[name].requires_grad_(True)
    inputs = tuple(o[name] for name in trained)

    def values(*changed: torch.Tensor) -> torch.Tensor:
        return tiled({**o, **dict(zip(trained, changed, strict=True))}, tiles=tiles, **finish)

    if not finish["bias"]:
        inputs = tuple(x for x, name in zip(inputs, trained, strict=True) if name != "bias")
        trained = tuple(name for name in trained if name != "bias")
    if not finish["lora"]:
        inputs = tuple(x for x, name in zip(inputs, trained, strict=True) if name not in ("z", "b"))
        trained = tuple(name for name in trained if name not in ("z", "b"))
    assert gradcheck(values, inputs)


@given(
    n=st.integers(0, 9),
    tokens=st.integers(1, 10),
    vocab=st.integers(1, 12),
    finish=st.sampled_from(FINISHES),
    seed=st.integers(0, 99),
    trained=st.sampled_from(TRAINED),
)
def test_values_and_gradients_are_those_of_the_whole_log_softmax(
    n, tokens, vocab, finish, seed, trained
):
    both = [operands(n, seed=seed) for _ in range(2)]
    for o in both:
        for name in trained:
            o[name].requires_grad_(True)
    found = tiled(both[0], tiles=Tiles(tokens, vocab), **finish)
    expected = plain(both[1], **finish)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    upstream = torch.linspace(-1, 2, n, dtype=torch.float64)
    (found @ upstream).backward()
    (expected @ upstream).backward()
    for name in trained:
        one, other = both[0][name].grad, both[1][name].grad
        assert (one is None) == (other is None), name
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("finish", FINISHES, ids=finish_id)
@pytest.mark.parametrize("keep_grad", [False, True])
def test_statistics_are_those_of_the_softmax_and_carry_no_gradient(finish, keep_grad):
    o = operands(6)
    o["hidden"].requires_grad_(keep_grad)
    low_rank = (o["z"], o["b"]) if finish["lora"] else None
    found = head_logps(
        o["hidden"],
        o["weight"],
        o["bias"] if finish["bias"] else None,
        o["targets"],
        low_rank=low_rank,
        scale=finish["scale"],
        cap=finish["cap"],
        statistics=True,
        tiles=Tiles(4, 3),
    )
    p = plain_logits(o, **finish).detach().softmax(1)
    torch.testing.assert_close(found.entropy, -(p * p.log()).sum(1), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.log_p2, p.square().sum(1).log(), rtol=1e-10, atol=1e-12)
    assert found.entropy is not None
    assert not found.entropy.requires_grad
    torch.testing.assert_close(found.values, plain(o, **finish), rtol=1e-12, atol=1e-12)


def test_statistics_are_not_computed_unless_asked_for():
    o = operands(3)
    found = head_logps(o["hidden"], o["weight"], None, o["targets"])
    assert found.entropy is None
    assert found.log_p2 is None


def test_logits_far_apart_stay_finite():
    """exp(10⁴) overflows; log p does not."""
    o = operands(4, dtype=torch.float32)
    o["hidden"] *= 1e4
    o["hidden"].requires_grad_(True)
    finish = {"bias": False, "lora": False, "scale": 1.0, "cap": None}
    found = tiled(o, tiles=Tiles(2, 3), **finish)
    found.sum().backward()
    torch.testing.assert_close(found, plain(o, **finish), rtol=1e-5, atol=1e-3)
    assert torch.isfinite(o["hidden"].grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_operands_give_fp32_values_near_the_exact_ones(dtype):
    o = operands(6, dtype=dtype)
    o["hidden"].requires_grad_(True)
    found = head_logps(o["hidden"], o["weight"], None, o["targets"], tiles=Tiles(4, 3)).values
    found.sum().backward()
    exact = {k: v.detach().double() if v.is_floating_point() else v for k, v in o.items()}
    exact["hidden"].requires_grad_(True)
    expected = plain(exact, bias=False, lora=False, scale=1.0, cap=None)
    expected.sum().backward()
    assert found.dtype == torch.float32
    assert o["hidden"].grad.dtype == dtype
    torch.testing.assert_close(found.double(), expected.detach(), rtol=0, atol=0.05)
    torch.testing.assert_close(o["hidden"].grad.double(), exact["hidden"].grad, rtol=0, atol=0.05)


def test_a_trained_head_and_a_frozen_one_agree_on_the_states_gradient():
    """One comes from the forward sweep, the other from recomputed tiles."""
    frozen, trained = operands(6), operands(6)
    frozen["hidden"].requires_grad_(True)
    trained["hidden"].requires_grad_(True)
    trained["weight"].requires_grad_(True)
    for o in (frozen, trained):
        head_logps(o["hidden"], o["weight"], None, o["targets"], cap=2.0).values.sum().backward()
    torch.testing.assert_close(frozen["hidden"].grad, trained["hidden"].grad)
