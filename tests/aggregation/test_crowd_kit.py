"""Against crowd-kit 1.4.2 where it is right; where it is not, what is wrong is shown.

Right: Dawid–Skene run to its end, and the likelihood of NoisyBradleyTerry. Wrong in 1.4.2:
NoisyBradleyTerry's gradient keeps only each worker's last vote for skill and bias (it assigns
where it should add) and writes them one place too low, over the last label's score; BradleyTerry
compares an array with itself and so stops after two steps.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import pandas as pd
import pytest
from components import require_component
from vote_tables import planted, table_of

from prefkit.aggregation import dawid_skene, responses
from prefkit.aggregation.bradley_terry import Raters


@pytest.fixture(scope="module")
def crowd():
    if importlib.util.find_spec("crowdkit") is None:
        require_component("crowd-kit", "it comes with prefkit[dev]")
    import crowdkit.aggregation

    return crowdkit.aggregation


def drawn(seed, n_items, k, n_raters):
    """Votes for a, b or a tie of raters with confusion tables of their own."""
    rng = np.random.default_rng(seed)
    tables = rng.dirichlet([1, 1, 1], (n_raters, 3)) * 0.4 + 0.6 * np.eye(3)
    item = np.repeat(np.arange(n_items), k)
    rater = np.tile(np.arange(n_raters), (n_items, 1))
    rater = rng.permuted(rater, axis=1)[:, :k].ravel()
    truth = rng.choice(3, n_items, p=[0.5, 0.3, 0.2])[item]
    outcome = np.array([rng.choice(3, p=tables[r, z]) for r, z in zip(rater, truth, strict=True)])
    return table_of(item, rater, outcome, n_items=n_items, n_raters=n_raters)


def test_dawid_skene_without_ties_and_priors_is_crowd_kits(crowd):
    table = drawn(0, 300, 5, 5)
    data = pd.DataFrame({"task": table.item, "worker": table.rater, "label": table.outcome})
    theirs = crowd.DawidSkene(n_iter=500, tol=1e-13).fit(data)
    votes = dawid_skene.evidence_of(table, 3)
    start = np.broadcast_to(np.full((3, 3), 0.15) + 0.55 * np.eye(3), (5, 3, 3))
    ours = dawid_skene.most_probable(
        votes, np.full((5, 3, 3), 1e-9), start=start, tied=False, virtual_items=0.0
    )
    posterior, _ = votes.posterior(dawid_skene.kinds(ours.pi), np.log(ours.rho))
    wanted = theirs.probas_.sort_index()[[0, 1, 2]].to_numpy()
    assert np.abs(posterior - wanted).max() < 2e-3
    for r in range(5):
        errors = theirs.errors_.loc[r].reindex([0, 1, 2])[[0, 1, 2]].to_numpy()
        assert np.abs(errors.T - ours.pi[r]).max() < 2e-3


def one_row_each(table):
    """left, right, label by worker, as crowd-kit's pairwise methods take it."""
    won = np.where(table.outcome == 0, table.first[table.item], table.second[table.item])
    return pd.DataFrame(
        {
            "worker": table.rater,
            "left": table.first[table.item],
            "right": table.second[table.item],
            "label": won,
        }
    )


def their_arguments(crowd, table, seed):
    """x at random with no bias, and what their likelihood takes besides."""
    data = one_row_each(table)
    votes = data[["left", "right", "label"]].to_numpy() + 1
    workers = data.worker.to_numpy()
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=table.n_responses)
    skills = rng.normal(1, 1, table.n_raters)
    x = np.concatenate([[0.0], scores, np.zeros(table.n_raters), skills])
    return x, (votes, workers, table.n_responses, table.n_raters, 0.0), scores, skills


def test_the_likelihood_of_skilled_raters_is_crowd_kits(crowd):
    world = planted(1, n_items=60, k=3, errors=[0.1] * 4, n_responses=12)
    x, rest, scores, skills = their_arguments(crowd, world.table, 1)
    theirs = -crowd.NoisyBradleyTerry._compute_log_likelihood(x, *rest)
    # Their skill is σ(x) in (0, 1); ours is 2σ(g) − 1.
    gamma = 1 / (1 + np.exp(-skills))
    raters = Raters(np.log((1 + gamma) / (1 - gamma)), np.zeros(4), 0.0, 0.0, 0.0)
    ours, gradient = responses.log_posterior(
        scores, responses.Duels.of(world.table, raters), precision=0.0
    )
    assert ours == pytest.approx(theirs)
    by_score = -crowd.NoisyBradleyTerry._compute_gradient(x, *rest)[1:12]
    assert gradient[:11] == pytest.approx(by_score)  # the twelfth is overwritten in theirs


def test_crowd_kits_gradient_by_skill_is_not_that_of_its_likelihood(crowd):
    world = planted(2, n_items=60, k=3, errors=[0.1] * 4, n_responses=12)
    x, rest, _, _ = their_arguments(crowd, world.table, 2)
    loss, gradient = (
        getattr(crowd.NoisyBradleyTerry, name)
        for name in ("_compute_log_likelihood", "_compute_gradient")
    )
    step = 1e-5 * np.eye(len(x))
    slopes = np.array([(loss(x + e, *rest) - loss(x - e, *rest)) / 2e-5 for e in step])
    theirs = gradient(x, *rest)
    assert theirs[1:12] == pytest.approx(slopes[1:12], abs=1e-4)
    assert np.abs(theirs[17:] - slopes[17:]).max() > 1


def test_crowd_kits_bradley_terry_stops_after_two_steps(crowd):
    world = planted(3, n_items=200, k=3, errors=[0.05] * 4, n_responses=10)
    data = one_row_each(world.table)
    few, many = (crowd.BradleyTerry(n_iter=n, tol=1e-12).fit(data).scores_ for n in (2, 500))
    assert (few == many).all()
