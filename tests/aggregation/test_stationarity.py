"""Every fitted method ends where the likelihood is flat.

The likelihoods here are written anew, as loops over votes, from the formulas in the modules'
docstrings; their slopes are finite differences. Nothing of the methods' own gradients is used.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from vote_tables import planted, table_of

from prefkit.aggregation import bradley_terry, dawid_skene, responses, scores
from prefkit.aggregation.bradley_terry import Raters, fit_raters
from prefkit.aggregation.dawid_skene import DawidSkene
from prefkit.aggregation.responses import ResponseBradleyTerry
from prefkit.aggregation.strength import Strength
from prefkit.aggregation.vote_share import LeaveOneOutShare

STEP = 1e-4
GRID = bradley_terry.GRID
LOG_WEIGHTS = -0.5 * GRID**2 - np.log(np.exp(-0.5 * GRID**2).sum())


def slopes(function, x):
    """Central differences of ``function`` at ``x``, one a component."""
    found = []
    for index in range(len(x)):
        up, down = x.copy(), x.copy()
        up[index] += STEP
        down[index] -= STEP
        found.append((function(up) - function(down)) / (2 * STEP))
    return np.array(found)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def mixed_table(seed=0, n=160, n_items=40, n_raters=3):
    """Votes of all kinds: ties, both bad, machines with a probability, every strength and side."""
    rng = np.random.default_rng(seed)
    outcome = rng.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])
    machine = (rng.random(n) < 0.2) & (outcome < 2)
    share = np.where(machine, rng.uniform(0, 1, n), np.array([1, 0, 0.5, 0.5])[outcome])
    return table_of(
        rng.integers(0, n_items, n),
        rng.integers(0, n_raters, n),
        outcome,
        n_items=n_items,
        n_raters=n_raters,
        level=rng.integers(-1, 4, n),
        side=rng.integers(-1, 2, n),
        share=share,
        machine=machine,
        first=rng.integers(0, 15, n_items),
        second=15 + rng.integers(0, 15, n_items),
    )


def weighted(table, v, *, ties_split):
    """(outcome, weight) of vote v: a machine's p_a, and where asked a tie, in two parts."""
    outcome, share = int(table.outcome[v]), float(table.share[v])
    if outcome == 3:
        return [] if ties_split else [(3, 1.0)]
    if table.soft[v] or (outcome == 2 and ties_split):
        return [(0, share), (1, 1 - share)]
    return [(outcome, 1.0)]


def dawid_skene_log_posterior(table, pi, rho, prior):
    total = sum(math.log(share) for share in rho) + float((prior * np.log(pi)).sum())
    for i in range(table.n_items):
        of_class = list(rho)
        for v in np.flatnonzero(table.item == i):
            for outcome, weight in weighted(table, v, ties_split=False):
                for z in range(len(rho)):
                    of_class[z] *= pi[table.rater[v], z, outcome] ** weight
        total += math.log(sum(of_class))
    return total


def tied_tables(x, n_raters):
    """Tables and class shares that are the same under a ↔ b, from free logits."""
    parts = x[: n_raters * 10].reshape(n_raters, 10)
    pi = np.empty((n_raters, 4, 4))
    for r, part in enumerate(parts):
        side, tie, bad = part[:4], part[4:7], part[7:]
        logits = np.array(
            [
                side,
                side[[1, 0, 2, 3]],
                [tie[0], tie[0], tie[1], tie[2]],
                [bad[0], bad[0], bad[1], bad[2]],
            ]
        )
        pi[r] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    last = x[n_raters * 10 :]
    rho = np.exp([last[0], last[0], last[1], last[2]])
    return pi, rho / rho.sum()


def free_logits(pi, rho):
    logits = np.log(pi)
    parts = [
        np.concatenate([table[0], table[2][[0, 2, 3]], table[3][[0, 2, 3]]]) for table in logits
    ]
    return np.concatenate([*parts, np.log(rho)[[0, 2, 3]]])


def test_dawid_skene_is_at_a_maximum_of_its_posterior():
    table = mixed_table()
    found = DawidSkene().fit(table).confusions
    assert found.converged
    one = dawid_skene.evidence_of(table, 4, one_rater=True)
    start = dawid_skene.POOL_PRIOR[None] / dawid_skene.POOL_PRIOR.sum(axis=1)
    pool = dawid_skene.most_probable(one, dawid_skene.POOL_PRIOR[None], start=start).pi
    prior = dawid_skene.OWN_FROM * np.broadcast_to(pool, found.pi.shape)
    x = free_logits(found.pi, found.rho)

    def at(x):
        return dawid_skene_log_posterior(table, *tied_tables(x, 3), prior)

    assert at(x) == pytest.approx(dawid_skene_log_posterior(table, found.pi, found.rho, prior))
    assert np.abs(slopes(at, x)).max() < 2e-3
    away = x + 0.2 * np.random.default_rng(1).normal(size=len(x))
    assert at(away) < at(x)
    assert np.abs(slopes(at, away)).max() > 0.1  # the differences can tell


def bradley_terry_log_posterior(table, raters, grid, log_weights):
    prior = sum((g - raters.usual) ** 2 for g in raters.skill)
    prior += sum(b**2 for b in raters.lean) + (raters.usual - 2.2) ** 2 + raters.left**2
    prior += 4 * (raters.spread - math.log(2)) ** 2
    total = -prior / 2
    for i in range(table.n_items):
        votes = np.flatnonzero(table.item == i)
        at = 0.0
        for z, log_weight in zip(grid, log_weights, strict=True):
            log_p = log_weight
            for v in votes:
                r = table.rater[v]
                pull = (raters.left + raters.lean[r]) * table.side[v]
                gamma = 2 * sigmoid(raters.skill[r]) - 1
                p = 0.5 + gamma * (sigmoid(math.exp(raters.spread) * z + pull) - 0.5)
                for outcome, weight in weighted(table, v, ties_split=True):
                    log_p += weight * math.log(p if outcome == 0 else 1 - p)
            at += math.exp(log_p)
        total += math.log(at)
    return total


def test_bradley_terry_is_at_a_maximum_of_its_marginal_posterior():
    table = mixed_table(2, n=90, n_items=25)
    raters, converged = fit_raters(table)
    assert converged

    def at(x):
        return bradley_terry_log_posterior(table, Raters.unpack(x), GRID, LOG_WEIGHTS)

    x = raters.pack()
    assert np.abs(slopes(at, x)).max() < 2e-3
    away = x + 0.3 * np.random.default_rng(1).normal(size=len(x))
    assert at(away) < at(x)
    assert np.abs(slopes(at, away)).max() > 0.1


def test_the_grid_is_the_integral_over_scores():
    table = mixed_table(3, n=60, n_items=10)
    raters = Raters(np.array([2.0, 0.5, -1.0]), np.array([0.5, 0.0, -0.5]), 1.0, 0.2, 0.8)
    fine = np.linspace(-8, 8, 1601)
    log_weights = -0.5 * fine**2 - math.log(math.sqrt(2 * math.pi)) + math.log(fine[1] - fine[0])
    exact = bradley_terry_log_posterior(table, raters, fine, log_weights)
    coarse = bradley_terry_log_posterior(table, raters, GRID, LOG_WEIGHTS)
    assert coarse == pytest.approx(exact, abs=2e-3)
    ours, _ = bradley_terry.log_posterior(bradley_terry.evidence_of(table), raters)
    assert ours == pytest.approx(coarse)


def test_response_scores_are_at_a_maximum_of_their_posterior():
    table = mixed_table(4)
    fitted = ResponseBradleyTerry().fit(table)
    raters = fitted.raters

    def at(x):
        total = -float(x @ x) * math.exp(-2 * raters.spread)
        for v in range(len(table)):
            i, r = table.item[v], table.rater[v]
            gamma = 2 * sigmoid(raters.skill[r]) - 1
            pull = (raters.left + raters.lean[r]) * table.side[v]
            p = 0.5 + gamma * (sigmoid(x[table.first[i]] - x[table.second[i]] + pull) - 0.5)
            for outcome, weight in weighted(table, v, ties_split=True):
                total += weight * math.log(p if outcome == 0 else 1 - p)
        return total

    found = responses.solve(table, raters, np.zeros(table.n_responses))
    assert np.abs(slopes(at, found)).max() < 2e-3
    assert np.abs(slopes(at, found + 0.3)).max() > 0.1


def test_fitted_share_has_the_least_leave_one_out_loss():
    table = mixed_table(5)
    weights = {-1: 0.75, 0: 0.75, 1: 0.5, 2: 0.75, 3: 1.0}
    speaking = [v for v in range(len(table)) if table.outcome[v] != 3]
    people = [v for v in speaking if not table.machine[v]]

    def weight(v):
        plain = table.outcome[v] != 2 and not table.soft[v]
        return weights[int(table.level[v])] if plain else 1.0

    def loss(x):
        alpha, total = math.exp(x[0]), x[0] ** 2 / 2
        for v in people:
            others = [u for u in speaking if u != v and table.item[u] == table.item[v]]
            if others:
                for_a = alpha + sum(weight(u) * table.share[u] for u in others)
                p = for_a / (2 * alpha + sum(map(weight, others)))
                total -= table.share[v] * math.log(p) + (1 - table.share[v]) * math.log(1 - p)
        return total

    x = np.array([math.log(LeaveOneOutShare().fit(table).alpha)])
    assert abs(slopes(loss, x)[0]) < 2e-3
    assert abs(slopes(loss, x + 0.5)[0]) > 0.1


def test_strengths_are_the_most_probable_rates_of_agreement():
    table = mixed_table(6)
    fitted = Strength().fit(table)
    speaking = [v for v in range(len(table)) if table.outcome[v] != 3]
    agreed = {(r, level): [0.0, 0.0] for r in range(3) for level in range(-1, 4)}
    for v in speaking:
        others = [
            u
            for u in speaking
            if u != v and table.item[u] == table.item[v] and not table.machine[u]
        ]
        lean = 2 * table.share[v] - 1
        if others and lean:
            agree = np.mean([table.share[u] if lean > 0 else 1 - table.share[u] for u in others])
            cell = agreed[int(table.rater[v]), int(table.level[v])]
            cell[0] += abs(lean) * agree
            cell[1] += abs(lean)
    for level in range(-1, 4):
        a = sum(agreed[r, level][0] for r in range(3))
        n = sum(agreed[r, level][1] for r in range(3))
        pooled = (1 + a) / (2 + n)
        for r in range(3):
            q = 1 / (1 + math.exp(-fitted.logit_q[r, level + 1]))
            own, heard = agreed[r, level]

            def log_posterior(x, own=own, heard=heard, pooled=pooled):
                yes, no = own + 25 * pooled, heard - own + 25 * (1 - pooled)
                return yes * math.log(x[0]) + no * math.log(1 - x[0])

            assert abs(slopes(log_posterior, np.array([q]))[0]) < 1e-3


def test_the_temperature_has_the_least_held_out_loss():
    rng = np.random.default_rng(7)
    logit = rng.normal(0, 2, 500)
    share = rng.choice([0.0, 0.5, 1.0], 500, p=[0.4, 0.2, 0.4])
    share = np.where(rng.random(500) < 0.5, share, (logit > 0).astype(float))
    tau = scores.fit_temperature(logit, share)

    def loss(x):
        p = 1 / (1 + np.exp(-x[0] * logit))
        return float(-(share * np.log(p) + (1 - share) * np.log(1 - p)).sum())

    assert abs(slopes(loss, np.array([tau]))[0]) < 1e-2
    assert loss(np.array([tau])) < min(loss(np.array([tau * 1.1])), loss(np.array([tau / 1.1])))


def test_every_search_ends_flat_on_planted_votes():
    table = planted(8, n_items=300, k=4, errors=np.linspace(0.02, 0.45, 10)).table
    assert fit_raters(table)[1]
    assert DawidSkene().fit(table).confusions.converged
