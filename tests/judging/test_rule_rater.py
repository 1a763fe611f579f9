from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judging_cases import BAD, GOOD, comparison, many

from prefkit.judging import JudgeSettings, RuleRater, judge
from prefkit.judging.rule_rater import NO_OPINION


def test_the_better_score_gets_the_vote_wherever_it_stands():
    comparisons, slots = many(40)
    judged = judge(comparisons)
    assert [vote.choice for vote in judged.votes] == slots
    assert {"a", "b"} == set(slots)
    assert judged.failed == {}


def test_every_comparison_is_a_vote_or_a_counted_failure():
    comparisons, _ = many(5)
    strange = [comparison(GOOD, BAD, tag=tag)[0] for tag in ("", "haiku")]
    judged = judge([*comparisons, *strange])
    assert len(judged.votes) == 5
    assert judged.failed == {NO_OPINION: 2}


@pytest.mark.parametrize(
    ("one", "other", "strength"),
    [
        (GOOD, "Bees fly around all day. Bees hum.", 2),  # 1 against 1/2
        (GOOD, BAD, 3),  # 1 against 1/5
        (GOOD, "A bee is a small flying", 1),  # 1 against 0.7
        (GOOD, GOOD.replace("bee", "fly"), 0),  # equal
    ],
)
def test_strength_grows_with_the_difference_of_scores(one, other, strength):
    made, slot = comparison(one, other)
    (vote,) = judge([made]).votes
    assert vote.strength == strength
    assert vote.choice == ("tie" if strength == 0 else slot)


def test_a_second_run_makes_the_same_ids():
    comparisons, _ = many(10)
    settings = JudgeSettings(noise=0.3, seed=4)
    first, second = (judge(comparisons, settings).votes for _ in range(2))
    assert [(v.id, v.choice, v.strength) for v in first] == [
        (v.id, v.choice, v.strength) for v in second
    ]
    assert len({vote.id for vote in first}) == 10


def test_other_settings_make_other_ids():
    comparisons, _ = many(3)
    ids = [
        {vote.id for vote in judge(comparisons, JudgeSettings(noise=noise, seed=seed)).votes}
        for noise, seed in ((0.0, 0), (0.1, 0), (0.1, 1))
    ]
    assert not ids[0] & ids[1]
    assert not ids[1] & ids[2]


@pytest.mark.parametrize("noise", [0.1, 0.4])
def test_noise_flips_its_share_of_verdicts(noise):
    n = 1500
    comparisons, slots = many(n)
    votes = RuleRater("format", noise=noise, seed=7).compare(comparisons).votes
    flipped = sum(vote.choice != slot for vote, slot in zip(votes, slots, strict=True))
    # Four standard deviations of a binomial share.
    assert abs(flipped / n - noise) < 4 * math.sqrt(noise * (1 - noise) / n)


@given(seed=st.integers(0, 2**31))
def test_noise_depends_on_the_comparison_and_not_on_its_neighbours(seed):
    comparisons, _ = many(8)
    rater = RuleRater("format", noise=0.5, seed=seed)
    together = {v.comparison_id: v.choice for v in rater.compare(comparisons).votes}
    apart = {v.comparison_id: v.choice for c in comparisons[::-1] for v in rater.compare([c]).votes}
    assert together == apart


def test_a_tie_has_no_winner_to_flip():
    made, _ = comparison(GOOD, GOOD.replace("bee", "fly"))
    for seed in range(20):
        (vote,) = RuleRater("format", noise=0.5, seed=seed).compare([made]).votes
        assert (vote.choice, vote.strength) == ("tie", 0)


def test_a_vote_says_who_gave_it():
    made, _ = comparison(GOOD, BAD)
    (vote,) = judge([made]).votes
    assert (vote.rater, vote.rater_kind) == ("rule:format", "rule")
    assert vote.comparison_id == vote.task_id == made.id
    assert vote.at.utcoffset() is not None
