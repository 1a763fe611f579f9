"""Laws of every registered loss: registering one enrols it. The algebra of single ones below."""

import itertools
import math
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_rows import WIDTH, Row, compute, make_rows, other_params, tensors
from naive_losses import naive
from naive_steps import STEPS, naive_step

from prefkit.core.errors import ConfigError
from prefkit.training.losses import Logps, Loss, Param, Targets, losses, register_loss
from prefkit.training.losses.divergences import DIVERGENCES

ALL = [loss for _, loss in losses]
PAIRS = [loss for loss in ALL if loss.target == "pair"]
seeds = st.integers(0, 2**32 - 1)


def oracle(loss: Loss, rows: list[Row], params, *divergence) -> torch.Tensor:
    """What plain arithmetic says."""
    if loss.name in STEPS:
        values = naive_step(loss.name, rows, params)
    else:
        values = [naive(loss.name, row, params, *divergence) for row in rows]
    return torch.tensor(values, dtype=torch.float64)


def every(group: list[Loss]):
    return pytest.mark.parametrize("loss", group, ids=lambda loss: loss.name)


# ---- against the oracle --------------------------------------------------------------------------


@every(ALL)
@given(seed=seeds)
@settings(max_examples=40)
def test_every_loss_is_what_plain_arithmetic_from_the_paper_gives(loss, seed):
    rows = make_rows(loss, seed)
    for params in (loss.defaults(), other_params(loss)):
        expected = oracle(loss, rows, params)
        torch.testing.assert_close(compute(loss, rows, **params), expected, rtol=1e-9, atol=1e-9)


@every([loss for loss in ALL if loss.divergences])
@pytest.mark.parametrize("divergence", DIVERGENCES)
@given(seed=seeds, alpha=st.sampled_from([0.0, 0.3, 0.5, 1.7]))
@settings(max_examples=20)
def test_every_divergence_is_what_plain_arithmetic_gives(loss, divergence, seed, alpha):
    rows, params = make_rows(loss, seed), other_params(loss)
    logps, targets = tensors(loss, rows, divergence=divergence, divergence_alpha=alpha)
    value = loss.function(logps, targets, params=params)
    expected = oracle(loss, rows, params, divergence, alpha)
    torch.testing.assert_close(value, expected, rtol=1e-8, atol=1e-8)


# ---- laws ----------------------------------------------------------------------------------------


@every(ALL)
@given(seed=seeds)
@settings(max_examples=40)
def test_one_value_a_row_and_only_coupled_losses_look_at_other_rows(loss, seed):
    rows = make_rows(loss, seed)
    together = compute(loss, rows)
    assert together.shape == (len(rows),)
    if not loss.couples_rows:
        alone = torch.cat([compute(loss, [row]) for row in rows])
        torch.testing.assert_close(together, alone)


@every([loss for loss in ALL if loss.couples_rows])
def test_a_loss_that_says_it_couples_rows_does(loss):
    rows = make_rows(loss, seed=3, size=4)
    changed = [replace(rows[0], lp=[x + 30 * (j + 1) for j, x in enumerate(rows[0].lp)]), *rows[1:]]
    assert not torch.allclose(compute(loss, rows)[1:], compute(loss, changed)[1:])


@every(ALL)
@given(seed=seeds)
@settings(max_examples=40)
def test_the_order_of_rows_is_the_order_of_values_and_nothing_else(loss, seed):
    rows = make_rows(loss, seed, size=5)
    order = random.Random(seed).sample(range(5), 5)
    shuffled = compute(loss, [rows[i] for i in order])
    torch.testing.assert_close(shuffled, compute(loss, rows)[order])


@every(PAIRS)
@given(seed=seeds)
@settings(max_examples=40)
def test_swapping_the_answers_with_p_and_margin_changes_nothing(loss, seed):
    rows = make_rows(loss, seed)
    params = other_params(loss)
    one, other = (compute(loss, x, **params) for x in (rows, [row.swapped() for row in rows]))
    # AOT leaves each value in the row of its rank, and a swapped winner is still that row's.
    torch.testing.assert_close(one, other)


@every(ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradient_are_finite_for_logits_of_ten_thousand(loss, dtype):
    scale = 1e4 / loss.defaults().get("beta", 1.0)
    ends = [-scale, -1.0, -1e-6] if not loss.rewards else [-scale, 0.0, scale]
    probabilities = [0.0, 1.0] if loss.hard else [0.0, 0.5, 1.0]
    width = WIDTH[loss.target]
    cases = itertools.product(
        itertools.product(ends, repeat=width), itertools.product(ends, repeat=width), probabilities
    )
    votes = ((1.0, None), (0.0, 0.0), (0.5, 1.0))
    if loss.target in ("ranking", "demonstration"):
        cases = (case for case in cases if case[2] == 1.0)
    rows = [Row(list(lp), list(ref), [3] * width, p, 2.0, votes) for lp, ref, p in cases]
    for divergence in DIVERGENCES if loss.divergences else ["reverse_kl"]:
        logps, targets = tensors(loss, rows, dtype, divergence=divergence)
        logps.policy.requires_grad_()
        value = loss.function(logps, targets, params=loss.defaults())
        assert torch.isfinite(value).all()
        # A row at a time, so that no sum over rows overflows what each of them holds.
        (gradient,) = torch.autograd.grad(value, logps.policy, torch.ones_like(value))
        assert torch.isfinite(gradient).all()


@every([loss for loss in ALL if not loss.name.startswith("bco")])
def test_the_gradient_is_that_of_the_value(loss):
    """gradcheck in fp64; KTO's detached column is held fixed, BCO has a test of its own."""
    rows = make_rows(loss, seed=11, size=5)
    logps, targets = tensors(loss, rows)
    free = 1 if loss.target == "unpaired" else None
    fixed = logps.policy[:, free:] if free else logps.policy[:, :0]

    def values(policy):
        whole = Logps(torch.cat([policy, fixed], dim=1), logps.reference, logps.n_tokens)
        return loss.function(whole, targets, params=other_params(loss))

    start = logps.policy[:, :free].clone().requires_grad_()
    assert torch.autograd.gradcheck(values, (start,), rtol=1e-4)


@pytest.mark.parametrize("name", ["bco", "bco_unpaired"])
def test_the_shift_of_bco_is_a_constant_to_the_gradient(name):
    """With rewards moved by −δ beforehand, the shift that is found is 0 and the rest the same."""
    loss = losses.get(name)
    logps, targets = tensors(loss, make_rows(loss, seed=5, size=6))
    params = loss.defaults()
    policy = logps.policy.clone().requires_grad_()
    value = loss.function(Logps(policy, logps.reference, logps.n_tokens), targets, params=params)
    (gradient,) = torch.autograd.grad(value.sum(), policy)
    p = targets.p
    rewards = params["beta"] * logps.ratios()
    if name == "bco":
        delta = rewards.mean()
    else:
        r = rewards[:, 0]
        delta = ((p * r).sum() / p.sum() + ((1 - p) * r).sum() / (1 - p).sum()) / 2
    # d/dΔ of −p log σ(r − δ) − (1 − p) log σ(δ − r) is β(σ(r − δ) − p).
    p_of = torch.stack([p, 1 - p], dim=1)
    by_hand = params["beta"] * ((rewards - delta).sigmoid() - p_of)
    if name == "bco_unpaired":
        by_hand[:, 1] = 0
    torch.testing.assert_close(gradient, by_hand)


def test_the_reference_point_of_kto_gives_no_gradient_to_the_answers_it_is_made_of():
    loss = losses.get("kto")
    logps, targets = tensors(loss, make_rows(loss, seed=2, size=4))
    logps.policy.requires_grad_()
    loss.function(logps, targets, params=loss.defaults()).sum().backward()
    assert logps.policy.grad is not None
    assert (logps.policy.grad[:, 1] == 0).all()
    assert (logps.policy.grad[:, 0] != 0).all()


# ---- what a registration says is so --------------------------------------------------------------


@every(ALL)
def test_every_parameter_is_read(loss):
    rows = make_rows(loss, seed=1, size=8)
    before = compute(loss, rows)
    for key, value in other_params(loss).items():
        assert not torch.equal(compute(loss, rows, **{key: value}), before), key


@every(ALL)
def test_default_parameters_are_inside_their_ranges(loss):
    assert loss.resolve(loss.defaults()) == loss.defaults()


@every(ALL)
def test_a_loss_without_a_reference_works_without_and_one_with_it_says_so(loss):
    logps, targets = tensors(loss, make_rows(loss, seed=4))
    bare = Logps(logps.policy, None, logps.n_tokens)
    if loss.needs_reference:
        with pytest.raises(ValueError, match="needs_reference"):
            loss.function(bare, targets, params=loss.defaults())
    else:
        assert torch.isfinite(loss.function(bare, targets, params=loss.defaults())).all()


@every(ALL)
def test_a_divergence_matters_exactly_where_the_registration_says(loss):
    rows = make_rows(loss, seed=6, size=6)
    plain, _ = tensors(loss, rows)
    other, targets = tensors(loss, rows, divergence="js")
    one, two = (loss.function(x, targets, params=loss.defaults()) for x in (plain, other))
    assert torch.equal(one, two) is not loss.divergences


@every(ALL)
def test_margins_and_votes_matter_exactly_where_the_registration_says(loss):
    rows = make_rows(loss, seed=8, size=6)
    params = {"margin": 0.5} if loss.reads_margin else {}
    before = compute(loss, rows, **params)
    moved = compute(loss, [replace(row, margin=7.0) for row in rows], **params)
    assert torch.equal(before, moved) is not loss.reads_margin
    voted = compute(loss, [replace(row, votes=((1.0, 0.01),) * 3) for row in rows], **params)
    assert torch.equal(before, voted) is not loss.reads_votes


@every([loss for loss in PAIRS if not loss.hard])
def test_a_loss_with_a_soft_form_reads_p(loss):
    rows = make_rows(loss, seed=9, size=6)
    values = [compute(loss, [replace(row, p=p, votes=()) for row in rows]) for p in (1.0, 0.7, 0.5)]
    assert not torch.equal(values[0], values[1])
    assert not torch.equal(values[1], values[2])


@every([loss for loss in ALL if loss.also])
def test_a_loss_takes_every_kind_of_row_it_names(loss):
    for target in loss.targets:
        logps = torch.tensor([[-6.0, -3.0, -4.0, -5.0][: WIDTH[target]]])
        value = loss.function(
            Logps(logps, None, torch.full_like(logps, 2).long()),
            Targets(torch.ones(1)),
            params=loss.defaults(),
        )
        assert value.tolist() == [6.0 if loss.per == "token" else 3.0]


@every([loss for loss in ALL if loss.per_token])
def test_a_loss_of_means_does_not_see_how_long_both_answers_are(loss):
    rows = make_rows(loss, seed=12, size=4)
    twice = [
        replace(row, **{key: [2 * x for x in getattr(row, key)] for key in ("lp", "ref", "n")})
        for row in rows
    ]
    torch.testing.assert_close(compute(loss, rows), compute(loss, twice))


def test_the_stable_losses_are_those_that_were_promised():
    assert {"sigmoid", "ipo", "kto", "orpo", "simpo", "robust"} <= {
        loss.name for loss in ALL if loss.stable
    }


def test_a_loss_says_either_its_soft_form_or_why_it_has_none():
    for texts in ({}, {"soft": "a", "hard": "b"}):
        with pytest.raises(ValueError, match="either soft= or hard="):
            register_loss("x", paper="", equation="", **texts)
    assert "x" not in losses.names()


def test_faults_of_parameters_are_named_together_with_their_range():
    with pytest.raises(ConfigError) as caught:
        losses.get("robust").resolve({"epsilon": 0.5, "bta": 1.0, "beta": math.nan})
    message = caught.value.message
    assert "epsilon is 0.5; expected a number, 0 … 0.499" in message
    assert "no parameter 'bta'; did you mean 'beta'?" in message
    assert "beta is nan" in message
    assert "beta (1e-06 … 1000), epsilon (0 … 0.499)" in (caught.value.hint or "")


def test_a_range_is_told_in_words():
    ranges = [Param(0, "", 0), Param(0, "", high=1), Param(0, ""), Param(0, "", 0, 1)]
    assert [param.range for param in ranges] == ["≥ 0", "≤ 1", "any", "0 … 1"]


# ---- the algebra of single losses ----------------------------------------------------------------


def test_hard_sigmoid_is_equation_7():
    """δ = (−3 − −5) − (−9 − −6) = 5, β = 0.2: −log σ(1) = log(1 + e⁻¹)."""
    row = Row([-3.0, -9.0], [-5.0, -6.0], [4, 4], 1.0)
    value = compute(losses.get("sigmoid"), [row], beta=0.2)
    assert math.isclose(value.item(), math.log(1 + math.exp(-1)), rel_tol=1e-12)


@given(p=st.floats(0, 1), lp=st.floats(-300, -0.01), other=st.floats(-300, -0.01))
def test_sigmoid_is_ln_2_where_policy_and_reference_agree(p, lp, other):
    row = Row([lp, other], [lp, other], [4, 7], p)
    assert math.isclose(compute(losses.get("sigmoid"), [row]).item(), math.log(2), rel_tol=1e-12)


@given(seed=seeds)
@settings(max_examples=40)
def test_losses_fall_back_to_sigmoid_where_they_should(seed):
    """robust, cdpo at ε = 0; dpop at λ = 0; rdpo at α = 0; AOT on one row; a list of two."""
    sigmoid = losses.get("sigmoid")
    rows = make_rows(sigmoid, seed)
    expected = compute(sigmoid, rows)
    same = {
        "robust": {"epsilon": 0.0},
        "cdpo": {"epsilon": 0.0},
        "dpop": {"penalty": 0.0},
        "rdpo": {"alpha": 0.0},
        "odpo": {"margin": 0.0},
    }
    for name, params in same.items():
        torch.testing.assert_close(compute(losses.get(name), rows, **params), expected)
    bare = [replace(row, votes=()) for row in rows]
    torch.testing.assert_close(compute(losses.get("votes"), bare), expected)
    hard = [replace(row, p=1.0) for row in rows]
    expected = compute(sigmoid, hard)
    for name in ("aot", "aot_unpaired"):
        alone = torch.cat([compute(losses.get(name), [row]) for row in hard])
        torch.testing.assert_close(alone, expected)
    torch.testing.assert_close(compute(losses.get("plackett_luce"), hard), expected)
    torch.testing.assert_close(compute(losses.get("gdpo"), hard), expected)
    one_vote = [replace(row, votes=((1.0, 0.0),)) for row in hard]
    torch.testing.assert_close(compute(losses.get("votes"), one_vote), expected)


@given(seed=seeds)
@settings(max_examples=40)
def test_alpha_divergence_nears_reverse_kl_at_1_and_is_forward_kl_at_0(seed):
    loss = losses.get("sigmoid")
    rows = make_rows(loss, seed)

    def value(divergence, alpha=0.5):
        logps, targets = tensors(loss, rows, divergence=divergence, divergence_alpha=alpha)
        return loss.function(logps, targets, params=loss.defaults())

    torch.testing.assert_close(value("alpha", 1.0), value("reverse_kl"))
    torch.testing.assert_close(value("alpha", 1 + 1e-5), value("reverse_kl"), rtol=0, atol=1e-3)
    torch.testing.assert_close(value("alpha", 0.0), value("forward_kl"))


@given(seed=seeds)
@settings(max_examples=40)
def test_what_stands_in_the_place_of_an_absent_answer_does_not_matter(seed):
    loss = losses.get("plackett_luce")
    rows = make_rows(loss, seed)
    filled = [
        replace(row, lp=[x if n else 1e5 for x, n in zip(row.lp, row.n, strict=True)])
        for row in rows
    ]
    torch.testing.assert_close(compute(loss, filled), compute(loss, rows))


def test_kto_without_any_mismatched_answer_takes_zero_as_its_reference_point():
    loss = losses.get("kto")
    rows = [replace(row, n=[row.n[0], 0]) for row in make_rows(loss, seed=0, size=3)]
    torch.testing.assert_close(compute(loss, rows), compute(losses.get("apo_zero_unpaired"), rows))
