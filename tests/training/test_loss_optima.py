"""Where the losses lead: optima known in closed form, reached by a table of one-token answers.

A prompt is a softmax over five tokens, a pair two of its tokens; the table is free, so that the
least value of the whole is that of every prompt by itself. LBFGS in fp64.
"""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch
from torch import Tensor

from prefkit.training.losses import Logps, Targets, Votes, losses

SOFT = [0.03, 0.3, 0.5, 0.75, 0.9, 0.99]


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def exact(values: object) -> Tensor:
    """In fp64 from the start: a tensor of floats is fp32 otherwise."""
    return torch.tensor(values, dtype=torch.float64)


def assert_near(found: Tensor, expected: list[float], *, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, exact(expected), rtol=0, atol=atol)


def fit(name, p, *, weight=None, prompt=None, margins=None, votes=None, **params) -> Tensor:
    """δ of each prompt after the fit: (prompts,). p: a number a row; prompt: the row's prompt."""
    loss = losses.get(name)
    complete = loss.resolve(params)
    rows = torch.arange(len(p)) if prompt is None else torch.tensor(prompt)
    weights = exact([1.0] * len(p)) if weight is None else exact(weight)
    targets = Targets(exact(p), margins, votes)
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(int(rows.max()) + 1, 5, generator=generator, dtype=torch.float64)
    reference = base.log_softmax(1)[:, :2]
    table = (base + torch.tensor([0.3, -0.2, 0, 0, 0])).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [table], max_iter=3000, tolerance_grad=1e-12, tolerance_change=0, history_size=50,
        line_search_fn="strong_wolfe",
    )  # fmt: skip
    ones = torch.ones(len(p), 2, dtype=torch.long)

    def step() -> Tensor:
        optimizer.zero_grad()
        policy = table.log_softmax(1)[rows, :2]
        given = Logps(policy, reference[rows] if loss.needs_reference else None, ones)
        value = (weights * loss.function(given, targets, params=complete)).sum() / weights.sum()
        value.backward()
        return value

    optimizer.step(step)
    assert table.grad is not None
    assert table.grad.abs().max() < 1e-7, "the fit did not end at a stationary point"
    policy = table.detach().log_softmax(1)[:, :2]
    ratios = policy - reference if loss.needs_reference else policy
    return ratios[:, 0] - ratios[:, 1]


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("name", ["sigmoid", "sigmoid_norm", "votes"])
def test_soft_dpo_ends_where_beta_delta_is_the_log_odds_of_p(name, beta):
    assert_near(beta * fit(name, SOFT, beta=beta), [logit(p) for p in SOFT])


@pytest.mark.parametrize("name", ["ipo", "ipo_mean"])
def test_ipo_ends_at_its_target_hard_labels_included(name):
    labels = [0.0, *SOFT, 1.0]
    assert_near(fit(name, labels, beta=0.4), [(2 * p - 1) / (2 * 0.4) for p in labels])


@pytest.mark.parametrize("name", ["cdpo", "exo"])
def test_smoothing_ends_at_the_smoothed_p(name):
    smoothed = [0.9, 0.9 * 0.75 + 0.1 * 0.25, 0.1]
    delta = fit(name, [1.0, 0.75, 0.0], beta=1.0, epsilon=0.1)
    assert_near(delta, [logit(p) for p in smoothed])


@pytest.mark.parametrize(("name", "params"), [("odpo", {}), ("sigmoid", {"margin": 1.0})])
def test_a_margin_moves_the_optimum_by_itself(name, params):
    margins = exact([1.0, -0.5, 0.0])
    delta = fit(name, [0.6, 0.6, 0.6], margins=margins, beta=0.5, **params)
    assert_near(0.5 * delta, [m + logit(0.6) for m in (1.0, -0.5, 0.0)])


def test_rewards_of_bradley_terry_end_the_log_odds_of_p_apart():
    assert_near(fit("bradley_terry", SOFT), [logit(p) for p in SOFT])


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_robust_recovers_the_clean_optimum_from_flipped_labels_of_known_rate(rate):
    """Hard labels of rate p, flipped with probability ε, are seen as first with
    q = (1 − ε)p + ε(1 − p); at β δ = logit p the gradient of q·ℓ_ε(z) + (1 − q)·ℓ_ε(−z) is 0."""
    clean = [0.7, 0.9, 0.5]
    seen = [(1 - rate) * p + rate * (1 - p) for p in clean]
    labels = [1.0, 0.0] * 3
    weight = [w for q in seen for w in (q, 1 - q)]
    rows = {"weight": weight, "prompt": [0, 0, 1, 1, 2, 2]}
    assert_near(
        0.5 * fit("robust", labels, beta=0.5, epsilon=rate, **rows), [logit(p) for p in clean]
    )
    # What the noise does to a loss that does not know of it: the optimum is drawn to 0.
    assert_near(0.5 * fit("sigmoid", labels, beta=0.5, **rows), [logit(q) for q in seen])


def test_votes_recover_p_from_raters_of_known_error():
    """A rater of error ε says "first" with q = ε + (1 − 2ε)p. With those shares the likelihood of
    each rater, and so their sum, is greatest where σ(βδ) = p; the plain share is not p."""
    clean, errors = [0.5, 0.8, 0.95], [0.02, 0.2, 0.4]
    share = exact([[e + (1 - 2 * e) * p for e in errors] for p in clean])
    error = exact([errors] * 3)
    votes = Votes(share, error, torch.ones(3, 3, dtype=torch.bool))
    delta = fit("votes", share.mean(1).tolist(), votes=votes, beta=0.5)
    assert_near(0.5 * delta, [logit(p) for p in clean])
    pooled = fit("sigmoid", share.mean(1).tolist(), beta=0.5)
    assert (0.5 * pooled[1:]).sigmoid().max() < 0.8


def test_drawn_votes_recover_p_within_their_standard_error():
    """4000 votes of raters with ε = 0.05, 0.2, 0.35 about one pair with p = 0.85. A rater's votes
    carry (1 − 2ε)²/(q(1 − q)) of information on p each, q = ε + (1 − 2ε)p."""
    rng, clean, n = random.Random(3), 0.85, 4000
    error = [rng.choice([0.05, 0.2, 0.35]) for _ in range(n)]
    shares = [e + (1 - 2 * e) * clean for e in error]
    share = [float(rng.random() < q) for q in shares]
    votes = Votes(exact([share]), exact([error]), torch.ones(1, n) > 0)
    found = fit("votes", [0.5], votes=votes, beta=1.0).sigmoid().item()
    information = sum((1 - 2 * e) ** 2 / (q * (1 - q)) for e, q in zip(error, shares, strict=True))
    assert abs(found - clean) < 3 / math.sqrt(information)
    assert abs(sum(share) / n - clean) > 5 / math.sqrt(information)


def test_plackett_luce_has_no_gradient_at_the_truth():
    """Over all 24 orders of four answers, each weighted by its Plackett-Luce probability under
    rewards r, the loss is least where the policy's rewards are r."""
    r, beta = [0.4, -1.0, 1.3, 0.2], 0.5
    orders = list(itertools.permutations(range(4)))
    policy = (exact(r) / beta).requires_grad_()
    chances = []
    for order in orders:
        rest = [math.exp(r[i]) for i in order]
        chances.append(math.prod(rest[k] / sum(rest[k:]) for k in range(4)))
    assert math.isclose(sum(chances), 1)
    rows = policy[torch.tensor(orders)]
    given = Logps(rows, torch.zeros(24, 4).double(), torch.ones(24, 4, dtype=torch.long))
    value = losses.get("plackett_luce").function(
        given, Targets(torch.ones(24).double()), params={"beta": beta}
    )
    (gradient,) = torch.autograd.grad((exact(chances) * value).sum(), policy)
    assert gradient.abs().max() < 1e-12


def test_gdpo_lets_a_tie_be_and_pulls_a_sure_row_without_end():
    delta = exact([[1.0, 0.0]] * 3).requires_grad_()
    given = Logps(delta, torch.zeros(3, 2).double(), torch.ones(3, 2, dtype=torch.long))
    value = losses.get("gdpo").function(
        given, Targets(exact([0.5, 0.7, 1.0])), params={"beta": 1.0}
    )
    (gradient,) = torch.autograd.grad(value.sum(), delta)
    assert gradient[0].abs().max() == 0
    assert gradient[2, 0] < gradient[1, 0] < 0
