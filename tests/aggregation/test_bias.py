"""Biases against published intervals, another regression, and votes with a bias put into them."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from real_data import real_data
from sklearn.linear_model import LogisticRegression
from vote_tables import AT

from prefkit.aggregation.bias import MARKS, PER_EFFECT, bias_table, clustered_logit
from prefkit.aggregation.interval import share, wilson
from prefkit.core.records import Comparison, Completion, Message, Prompt, Vote


def comparison(number, one="one", other="other"):
    """Slots as given: the ids of this test say nothing."""
    prompt = Prompt.make([Message.of("user", f"question {number}")])
    a, b = (
        Completion.make(prompt.id, [Message.of("assistant", text)], model)
        for text, model in ((one, "x"), (other, "y"))
    )
    return Comparison(f"pair-{number:05d}", prompt, a, b, "test")


def vote(pair, choice, *, rater="kim", left="a", task=None, at=0, kind="human"):
    return Vote(
        id=f"{pair.id}-{rater}-{task}-{at}",
        task_id=task or pair.id,
        comparison_id=pair.id,
        rater=rater,
        rater_kind=kind,
        choice=choice,
        at=AT + timedelta(seconds=at),
        shown_first=left,
    )


def named(votes, comparisons):
    return {bias.name: bias for bias in bias_table(votes, comparisons)}


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_wilsons_as_newcombe_prints_it(hits, n, low, high):
    """Newcombe (1998), Statistics in Medicine 17:857, Table I, method 3."""
    assert wilson(hits / n, n) == pytest.approx((low, high), abs=5e-5)
    hit = np.r_[np.ones(hits), np.zeros(n - hits)]
    found = share(hit, np.arange(n))
    assert found.low <= low + 1e-3
    assert found.high >= high - 1e-3


def test_votes_that_go_together_count_as_few():
    hit = np.repeat(np.random.default_rng(0).integers(0, 2, 40), 25).astype(float)
    item = np.repeat(np.arange(40), 25)
    found = share(hit, item)
    effective = 39  # 40 comparisons; the factor n/(n − 1) of the variance takes one
    assert (found.low, found.high) == pytest.approx(wilson(found.value, effective))


def test_a_share_of_nothing_and_of_one_comparison():
    assert share(np.zeros(0), np.zeros(0, dtype=np.int64)) is None
    all_one = share(np.ones(50), np.zeros(50, dtype=np.int64))
    assert (all_one.low, all_one.high) == pytest.approx(wilson(1.0, 1))


def naive_errors(x, y, item, beta):
    """The sandwich from its definition, comparison by comparison."""
    p = 1 / (1 + np.exp(-x @ beta))
    bread = np.linalg.inv(
        sum(q * (1 - q) * np.outer(row, row) for q, row in zip(p, x, strict=True))
    )
    items = sorted(set(item.tolist()))
    meat = np.zeros_like(bread)
    for i in items:
        score = sum(x[k] * (y[k] - p[k]) for k in range(len(y)) if item[k] == i)
        meat += np.outer(score, score)
    return np.sqrt(np.diag(bread @ meat @ bread) * len(items) / (len(items) - 1))


def drawn(seed, n_items=150, k=3):
    rng = np.random.default_rng(seed)
    item = np.repeat(np.arange(n_items), k)
    x = np.column_stack([rng.normal(size=n_items)[item], rng.choice([-0.5, 0.5], len(item))])
    p = 1 / (1 + np.exp(-(x @ [0.8, 0.4] + rng.normal(0, 1, n_items)[item])))
    return x, (rng.random(len(item)) < p).astype(float), item


@pytest.mark.parametrize("seed", range(3))
def test_the_regression_is_scikit_learns_and_its_errors_are_the_sandwich(seed):
    x, y, item = drawn(seed)
    beta, error = clustered_logit(x, y, item)
    other = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(x, y)
    assert beta == pytest.approx(other.coef_[0], abs=1e-5)
    assert error == pytest.approx(naive_errors(x, y, item, beta))


def test_no_coefficients_where_one_side_always_wins_or_a_column_repeats_another():
    x, y, item = drawn(0)
    assert clustered_logit(x[:, :1], (x[:, 0] > 0).astype(float), item) is None
    assert clustered_logit(np.column_stack([x[:, 0], 2 * x[:, 0]]), y, item) is None


def test_a_lean_to_the_left_is_found_with_its_size():
    """The left wins two times of three: odds of 2."""
    rng = np.random.default_rng(0)
    comparisons = [comparison(n, "x" * int(a), "y" * int(b)) for n, (a, b) in
                   enumerate(rng.integers(20, 400, (1500, 2)))]  # fmt: skip
    votes = []
    for pair in comparisons:
        for rater in ("kim", "rae"):
            left = "a" if rng.random() < 0.5 else "b"
            first = rng.random() < 2 / 3
            other = "b" if left == "a" else "a"
            votes.append(vote(pair, left if first else other, rater=rater, left=left))
    found = named(votes, comparisons)
    left = found["left"]
    assert (left.n_votes, left.n_comparisons) == (3000, 1500)
    assert left.share.low < 2 / 3 < left.share.high
    assert left.share.high - left.share.low < 0.04
    assert left.odds.low < 2 < left.odds.high
    assert found["longer"].share.low < 0.5 < found["longer"].share.high
    assert found["longer"].odds.low < 1 < found["longer"].odds.high


def test_the_pull_of_length_and_of_lists_is_told_apart():
    """Lists are long here. Votes go by the list alone, so length has odds of 1 and a high share."""
    rng = np.random.default_rng(1)
    comparisons, votes = [], []
    for n in range(1500):
        listed = bool(rng.random() < 0.5)
        long = "- item\n" * 60 if listed else "word " * int(rng.integers(10, 60))
        comparisons.append(comparison(n, long, "word " * int(rng.integers(10, 60))))
        p = 0.75 if listed else 0.5
        choice = "a" if rng.random() < p else "b"
        votes.append(vote(comparisons[-1], choice, left="a" if rng.random() < 0.5 else "b"))
    found = named(votes, comparisons)
    assert found["list"].odds.low < 3 < found["list"].odds.high
    assert found["list"].share.low < 0.75 < found["list"].share.high
    assert found["longer"].share.low > 0.5
    assert found["longer"].odds.low < 1 < found["longer"].odds.high


def test_one_pull_that_always_won_does_not_hide_the_odds_of_the_others():
    """The only heading among a thousand pairs was in the answer that was chosen."""
    rng = np.random.default_rng(3)
    comparisons = [comparison(n, "x" * 30, "y" * int(b)) for n, b in
                   enumerate(rng.integers(20, 40, 1000))]  # fmt: skip
    comparisons[0] = comparison(0, "# Heading\n" + "x" * 30, "y" * 30)
    votes = [vote(comparisons[0], "a", left="b")]
    for pair in comparisons[1:]:
        left = str(rng.choice(["a", "b"]))
        other = "b" if left == "a" else "a"
        votes.append(vote(pair, left if rng.random() < 2 / 3 else other, left=left))
    found = named(votes, comparisons)
    assert found["heading"].odds is None
    assert found["left"].odds.low < 2 < found["left"].odds.high
    assert found["longer"].odds.low < 1 < found["longer"].odds.high


def test_swapping_a_and_b_changes_nothing():
    rng = np.random.default_rng(2)
    comparisons = [comparison(n, "- x\n" * int(a), "word " * int(b)) for n, (a, b) in
                   enumerate(rng.integers(1, 40, (200, 2)))]  # fmt: skip
    turned = [Comparison(c.id, c.prompt, c.b, c.a, c.origin) for c in comparisons]
    votes, other = [], []
    swap = {"a": "b", "b": "a"}
    for pair in comparisons:
        choice, left = rng.choice(["a", "b"], 2)
        votes.append(vote(pair, str(choice), left=str(left)))
        other.append(vote(pair, swap[choice], left=swap[left]))
    one, two = bias_table(votes, comparisons), bias_table(other, turned)
    for here, there in zip(one, two, strict=True):
        assert here.share == there.share
        if here.odds is not None:
            assert (here.odds.value, here.odds.low) == pytest.approx(
                (there.odds.value, there.odds.low)
            )


def test_repeats_tell_the_side_from_the_pair():
    """Seen twice with sides swapped: a then b from the left is the left twice, b then a from the
    right is the right twice, a and a is no side at all."""
    comparisons = [comparison(n) for n in range(6)]
    votes = []
    for n, choices in enumerate(["ab", "ab", "ab", "ba", "aa", "a"]):
        for at, (choice, left) in enumerate(zip(choices, "ab", strict=False)):
            task = None if at == 0 else f"repeat-{n}"
            votes.append(vote(comparisons[n], choice, left=left, task=task, at=at))
    found = named(votes, comparisons)
    twice = found["left_twice"]
    assert (twice.share.value, twice.n_votes, twice.n_comparisons) == (0.75, 4, 4)
    assert found["left"].n_votes == 6  # the first time alone


def test_ties_machines_and_replaced_votes_are_no_evidence_of_a_share():
    pair = comparison(0, "short", "a good deal longer")
    tie, machine = vote(pair, "tie"), vote(pair, "b", rater="rule:x", kind="rule")
    found = named([tie, machine], [pair])
    assert (found["longer"].share, found["longer"].n_votes) == (None, 0)
    assert named([], [])["left"].share is None


def test_few_comparisons_have_a_share_and_no_odds():
    comparisons = [comparison(n, "x", "y" * 9) for n in range(PER_EFFECT)]
    votes = [vote(pair, "a" if n % 3 else "b", left="a" if n % 2 else "b")
             for n, pair in enumerate(comparisons)]  # fmt: skip
    found = named(votes, comparisons)
    assert found["longer"].share is not None
    assert {bias.odds for bias in found.values()} == {None}


@pytest.mark.parametrize(
    ("name", "there", "not_there"),
    [
        ("list", ["- one", "text\n\n 2. two", "* x\n* y"], ["a - b", "1.5 is a number", "*bold*"]),
        ("code", ["```py\nx\n```", "text\n~~~\nx\n~~~"], ["`inline`", "a ``` b"]),
        ("heading", ["# One", "text\n### Three"], ["#hashtag", "C# is a language"]),
        ("bold", ["some **words** here", "**All**"], ["2 ** 3 ** 2", "**", "* a *"]),
    ],
)
def test_what_counts_as_a_mark(name, there, not_there):
    assert [bool(MARKS[name].search(text)) for text in there] == [True] * len(there)
    assert [bool(MARKS[name].search(text)) for text in not_there] == [False] * len(not_there)


def test_real_votes_have_biases_with_intervals():
    for file in ("ukpconvarg1_dev_votes", "mtbench_dev_votes"):
        real_data(f"multi/{file}.parquet")
    from benchmarks.aggregate import load_mtbench, load_ukp

    comparisons, votes = load_ukp()
    found = named(votes, comparisons)
    assert found["left"].n_votes > 5000
    left = found["left"].share  # a pair stood one way round for all: its votes go together
    assert 0.03 < left.high - left.low < 0.05
    assert found["longer"].odds.low > 1  # longer arguments are found more convincing
    comparisons, votes = load_mtbench()
    found = named(votes, comparisons)
    assert found["left"].share is None  # the sides are not recorded
    assert found["longer"].share.low > 0.5
