"""What is delivered: the method, its temperature, and what stands in the preferences."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from vote_tables import planted, records_of, table_of

from prefkit.aggregation import (
    AGGREGATORS,
    aggregate,
    aggregate_scored,
    build_examples,
    counted_votes,
)
from prefkit.aggregation.crossval import evaluate, make_plan
from prefkit.core.errors import ConfigError
from prefkit.core.records import Example
from prefkit.curation import curate
from prefkit.formats.schema import to_table
from prefkit.training.votes import read_votes

ERRORS = (0.02, 0.1, 0.1, 0.2, 0.3, 0.45, 0.9)
FITTED = [name for name, entry in AGGREGATORS if entry.method is not None]


@pytest.fixture(scope="module")
def world():
    return planted(1, n_items=400, k=4, errors=ERRORS, spread=3.0)


@pytest.fixture(scope="module")
def records(world):
    return records_of(world.table)


@pytest.fixture(scope="module")
def scored(records):
    comparisons, votes = records
    return aggregate_scored(comparisons, counted_votes(comparisons, votes))


def test_auto_takes_the_method_that_the_scores_pick(scored):
    assert scored.method == scored.evaluation.picked != "majority"
    assert {p.method for p in scored.preferences} == {scored.method}
    assert scored.uncalibrated is None
    assert len(scored.preferences) == 400


def test_the_version_names_the_temperature_and_the_votes(scored, records):
    comparisons, votes = records
    version = scored.preferences[0].version
    assert f"tau={scored.temperature:.4g}" in version
    fewer = aggregate(comparisons, votes[:-1], method=scored.method)
    assert fewer[0].version.rpartition("votes=")[2] != version.rpartition("votes=")[2]


@pytest.mark.parametrize("method", FITTED)
def test_a_named_method_is_delivered_as_it_was_scored(records, world, method):
    comparisons, votes = records
    if method == "response_bradley_terry":
        world = planted(2, n_items=400, k=4, errors=ERRORS, n_responses=60)
        comparisons, votes = records_of(world.table)
    found = aggregate_scored(comparisons, counted_votes(comparisons, votes), method=method)
    entry = AGGREGATORS.get(method)
    p_a = entry.method.fit(world.table).p_a(world.table)
    if entry.tempered:
        logit = found.temperature * np.log(p_a / (1 - p_a))
        p_a = np.clip(1 / (1 + np.exp(-logit)), 0.025, 0.975)  # four votes: 1 − 0.1/4
        assert found.temperature == found.evaluation.score(method).temperature
    else:
        assert found.temperature is None
    assert [p.p_a for p in found.preferences] == pytest.approx(list(p_a), abs=1e-6)
    assert found.preferences == aggregate(comparisons, votes, method=method)
    for preference in found.preferences:
        assert preference.margin == pytest.approx(np.log(preference.p_a / (1 - preference.p_a)))
        assert preference.weight == 1.0


def test_one_vote_a_comparison_is_uncalibrated_and_falls_to_the_vote_share(records):
    comparisons, votes = records
    single = votes[::4]
    found = aggregate_scored(comparisons, counted_votes(comparisons, single))
    assert found.uncalibrated == "every comparison has the vote of one rater"
    assert (found.method, found.temperature, found.evaluation) == ("vote_share", None, None)
    assert found.preferences == AGGREGATORS.get("vote_share").function(
        comparisons, single, params={}
    )
    assert "error_rate" not in found.preferences[0].votes


def test_one_machine_vote_a_pair_gives_the_numbers_it_gave_before_there_was_auto(records):
    comparisons, votes = records
    said = np.random.default_rng(0).uniform(0, 1, 400)
    machine = [
        replace(vote, rater="rule:format", rater_kind="rule", p_a=p, choice="a")
        for vote, p in zip(votes[::4], said, strict=True)
    ]
    found = aggregate(comparisons, machine)
    assert [p.p_a for p in found] == pytest.approx([(1 + p) / 3 for p in said])
    assert {(p.method, p.version) for p in found} == {("vote_share", "1")}


def test_few_votes_in_overlap_are_uncalibrated_and_say_how_many_are_wanted(records):
    comparisons, votes = records
    found = aggregate_scored(comparisons, counted_votes(comparisons, votes[:40]))
    assert found.uncalibrated == "40 votes have another one beside them; 200 are needed"
    assert found.method == "vote_share"


def test_a_fitted_method_without_overlap_says_so_in_its_version(records):
    comparisons, votes = records
    found = aggregate(comparisons, votes[::4], method="dawid_skene")
    assert all(p.version.startswith("1 uncalibrated votes=") for p in found)
    assert all(0.1 <= p.p_a <= 0.9 for p in found)  # one vote never says more


def test_strengths_that_nobody_voted_beside_count_as_in_the_vote_share(records):
    """Not as nothing: every pair would be a tie."""
    comparisons, votes = records
    single = [replace(vote, strength=1 + n % 3) for n, vote in enumerate(votes[::4])]
    found, share = (aggregate(comparisons, single, method=m) for m in ("strength", "vote_share"))
    assert [p.p_a for p in found] == pytest.approx([p.p_a for p in share])
    assert {round(max(p.p_a, 1 - p.p_a), 3) for p in found} == {0.6, 0.636, 0.667}


def test_a_method_that_does_not_apply_is_uncalibrated(records):
    comparisons, votes = records
    counted = counted_votes(comparisons, votes)
    found = aggregate_scored(comparisons, counted, method="response_bradley_terry")
    assert found.uncalibrated == "no answer is in two comparisons"
    assert found.temperature is None


def test_every_vote_carries_its_raters_error_and_training_reads_it(scored, records, world):
    comparisons, _ = records
    examples, _ = build_examples(comparisons, scored.preferences)
    by_rater = {}
    for example in examples:
        for vote, raw in zip(
            read_votes(example.votes, example.evidence, row="1"),
            json.loads(example.votes),
            strict=True,
        ):
            assert 0 <= vote.error_rate < 0.5
            by_rater[raw["rater"]] = vote.error_rate
    errors = np.minimum(world.errors, 0.5)
    found = [by_rater[name] for name in world.table.raters]
    assert np.corrcoef(found, errors)[0, 1] > 0.9
    assert found[6] == 0.499  # wrong nine times in ten: its word is worth nothing to training


def test_methods_without_raters_carry_the_errors_of_agreement(records, world):
    comparisons, votes = records
    found = aggregate(comparisons, votes, method="vote_share")
    rates = {v["rater"]: v["error_rate"] for p in found for v in json.loads(p.votes)}
    assert rates["rater-000"] < rates["rater-004"] <= rates["rater-006"]


def test_both_bad_says_something_to_dawid_skene_and_nothing_to_the_others():
    rng = np.random.default_rng(3)
    world = planted(3, n_items=150, k=3, errors=[0.1] * 5)
    table = world.table
    bad = table_of(
        np.concatenate([table.item, np.repeat(np.arange(150, 200), 3)]),
        np.concatenate([table.rater, np.tile([0, 1, 2], 50)]),
        np.concatenate([table.outcome, rng.choice([0, 1, 3], 150, p=[0.1, 0.1, 0.8])]),
    )
    comparisons, votes = records_of(bad)
    counted = counted_votes(comparisons, votes)
    assert counted.counts["n_both_bad"] > 80
    speaking = [vote for vote in votes if vote.choice != "both_bad"]
    for method in ("vote_share", "dawid_skene"):
        with_bad, without = (
            {p.comparison_id: p for p in aggregate(comparisons, cast, method=method)}
            for cast in (votes, speaking)
        )
        assert with_bad.keys() == without.keys()
        assert sum(p.n_votes for p in with_bad.values()) == counted.counts["n_counted"]
        moved = max(abs(with_bad[key].p_a - without[key].p_a) for key in with_bad)
        assert (moved > 1e-4) == (method == "dawid_skene")


def test_swapping_every_slot_and_screen_mirrors_what_is_delivered(records):
    comparisons, votes = records
    other = {"a": "b", "b": "a", None: None}
    turned = [
        replace(vote, choice=other[vote.choice], shown_first=other[vote.shown_first])
        for vote in votes
    ]
    straight, mirrored = aggregate(comparisons, votes), aggregate(comparisons, turned)
    assert straight[0].method == mirrored[0].method
    assert [p.p_a for p in mirrored] == pytest.approx([1 - p.p_a for p in straight], abs=1e-4)


def test_scores_do_not_change_with_the_order_of_votes(records):
    comparisons, votes = records
    assert aggregate(comparisons, votes[::-1]) == aggregate(comparisons, votes)


def test_recipe_none_keeps_every_preference(scored, records):
    comparisons, _ = records
    examples, counts = build_examples(comparisons, scored.preferences)
    result = curate(to_table(examples, Example), "none")
    assert result.kept.num_rows == counts["preferences"] == 400
    assert result.dropped.num_rows == 0
    assert all(0.5 <= p <= 0.98 for p in result.kept.column("p").to_pylist())


def test_soft_labels_of_the_picked_method_are_calibrated(world, scored):
    fresh = planted(1, n_items=400, k=4, errors=ERRORS, spread=3.0)  # the same world
    sure = np.array([p.p_a for p in scored.preferences])
    # What a fresh rater would say: the mean over raters and sides of what they are.
    truth = 1 / (1 + np.exp(-fresh.scores))
    p = np.mean([truth * (1 - e) + (1 - truth) * e for e in fresh.errors], axis=0)
    assert np.corrcoef(sure, p)[0, 1] > 0.7
    cross_entropy = -(p * np.log(sure) + (1 - p) * np.log(1 - sure)).mean()
    share = np.array([x.p_a for x in aggregate(*records_of(world.table), method="vote_share")])
    assert cross_entropy < -(p * np.log(share) + (1 - p) * np.log(1 - share)).mean()


def test_auto_takes_no_parameters(records):
    comparisons, votes = records
    with pytest.raises(ConfigError, match="auto takes no parameters, got alpha"):
        aggregate(comparisons, votes, params={"alpha": 2})
    with pytest.raises(ConfigError, match="strength takes no parameters"):
        aggregate(comparisons, votes, method="strength", params={"alpha": 2})


def test_a_plugin_is_delivered_and_not_scored(records, monkeypatch):
    from prefkit.aggregation import aggregator

    comparisons, votes = records
    monkeypatch.setattr(AGGREGATORS, "_entries", dict(AGGREGATORS._entries))

    @aggregator("plain", paper="none")
    def plain(comparisons, votes, *, params):
        return AGGREGATORS.get("vote_share").function(comparisons, votes, params=params)[:1]

    found = aggregate_scored(comparisons, counted_votes(comparisons, votes), method="plain")
    assert (found.method, len(found.preferences)) == ("plain", 1)
    assert found.uncalibrated == "a plain function is not scored"
    auto = aggregate_scored(comparisons, counted_votes(comparisons, votes))
    assert "plain" not in {score.name for score in auto.evaluation.methods}


def test_the_python_score_is_that_of_the_delivered_method(scored, world):
    entries = {name: entry for name, entry in AGGREGATORS if entry.method}
    assert evaluate(entries, make_plan(world.table))[0].picked == scored.method
