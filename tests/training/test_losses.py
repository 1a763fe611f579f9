"""Laws of every registered loss, and the algebra of the sigmoid one."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefkit.training.losses import Logps, Targets, losses

PAIR = [name for name, loss in losses if loss.target == "pair"]
SOFT = [name for name in PAIR if losses.get(name).soft]
logp = st.floats(-300, -0.01)
quad = st.tuples(logp, logp, logp, logp)
label = st.floats(0, 1)
betas = st.sampled_from([0.01, 0.1, 0.5, 2.0])


def compute(name, quads, p, beta=0.1):
    """Row losses of (policy chosen, policy rejected, ref chosen, ref rejected) quads, in fp64."""
    loss = losses.get(name)
    values = torch.tensor(quads, dtype=torch.float64)
    reference = values[:, 2:] if loss.needs_reference else None
    return loss.function(
        Logps(values[:, :2], reference, torch.full((len(quads), 2), 5)),
        Targets(torch.tensor(p, dtype=torch.float64)),
        params={**loss.defaults(), "beta": beta},
    )


@pytest.mark.parametrize("name", PAIR)
@given(rows=st.lists(st.tuples(quad, label), min_size=1, max_size=5), beta=betas)
def test_one_finite_value_a_row_and_no_row_sees_another(name, rows, beta):
    quads, p = [r[0] for r in rows], [r[1] for r in rows]
    together = compute(name, quads, p, beta)
    assert together.shape == (len(rows),)
    assert torch.isfinite(together).all()
    if not losses.get(name).couples_rows:
        alone = torch.cat([compute(name, [q], [t], beta) for q, t in rows])
        torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("name", SOFT)
@given(row=quad, p=label, beta=betas)
def test_swapping_the_sides_and_p_changes_nothing(name, row, p, beta):
    pc, pr, rc, rr = row
    one = compute(name, [row], [p], beta)
    other = compute(name, [(pr, pc, rr, rc)], [1 - p], beta)
    torch.testing.assert_close(one, other)


@given(chosen=logp, rejected=logp, p=label, beta=betas)
def test_sigmoid_is_ln_2_where_policy_and_reference_agree(chosen, rejected, p, beta):
    value = compute("sigmoid", [(chosen, rejected, chosen, rejected)], [p], beta)
    assert math.isclose(value.item(), math.log(2), rel_tol=1e-6)


@given(p=st.floats(0.01, 0.99), beta=betas)
def test_sigmoid_has_its_optimum_where_beta_delta_is_the_log_odds_of_p(p, beta):
    """d/dz of −p log σ(z) − (1 − p) log σ(−z) is σ(z) − p, zero at z = logit p."""
    delta = math.log(p / (1 - p)) / beta
    chosen = torch.tensor([[delta - 50.0, -50.0]], dtype=torch.float64, requires_grad=True)
    value = losses.get("sigmoid").function(
        Logps(chosen, torch.full((1, 2), -50.0, dtype=torch.float64), torch.ones(1, 2)),
        Targets(torch.tensor([p], dtype=torch.float64)),
        params={"beta": beta},
    )
    value.sum().backward()
    assert chosen.grad is not None
    assert chosen.grad.abs().max() < 1e-9


def test_hard_sigmoid_is_equation_7():
    """δ = (−3 − −5) − (−9 − −6) = 5, β = 0.2: −log σ(1) = log(1 + e⁻¹)."""
    value = compute("sigmoid", [(-3.0, -9.0, -5.0, -6.0)], [1.0], beta=0.2)
    assert math.isclose(value.item(), math.log(1 + math.exp(-1)), rel_tol=1e-6)
