"""WPO weights and LD-DPO sums against loops over tokens."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.training.losses.modifiers import ld_dpo_sums, wpo_weights

Answers = list[list[float]]
token = st.floats(-9, -0.01)
rows_of_answers = st.lists(
    st.lists(st.lists(token, max_size=6), min_size=1, max_size=4), min_size=1, max_size=4
)


def flat(rows: list[Answers]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """values (N,), answer (N,), row of each answer."""
    answers = [answer for row in rows for answer in row]
    values = torch.tensor([value for answer in answers for value in answer], dtype=torch.float64)
    index = torch.tensor([i for i, answer in enumerate(answers) for _ in answer], dtype=torch.long)
    row_of = torch.tensor([i for i, row in enumerate(rows) for _ in row], dtype=torch.long)
    return values, index, row_of


@given(rows=rows_of_answers, alpha=st.floats(0, 1))
@settings(max_examples=60)
def test_ld_dpo_counts_tokens_past_the_shortest_rival_by_alpha(rows, alpha):
    values, answer, row_of = flat(rows)
    found = ld_dpo_sums(values, answer, row_of, len(rows), alpha=alpha)
    expected = []
    for row in rows:
        shortest = min((len(a) for a in row if a), default=0)
        expected += [sum(a[:shortest]) + alpha * sum(a[shortest:]) for a in row]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@given(rows=rows_of_answers)
@settings(max_examples=40)
def test_ld_dpo_with_alpha_1_is_the_plain_sum(rows):
    values, answer, row_of = flat(rows)
    found = ld_dpo_sums(values, answer, row_of, len(rows), alpha=1.0)
    plain = torch.tensor([math.fsum(a) for row in rows for a in row], dtype=torch.float64)
    torch.testing.assert_close(found, plain)


def test_the_gradient_of_a_tail_token_is_alpha():
    values, answer, row_of = flat([[[-1.0, -2.0, -3.0], [-4.0]]])
    values.requires_grad_()
    ld_dpo_sums(values, answer, row_of, 1, alpha=0.25).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 0.25, 0.25, 1.0]


@given(rows=rows_of_answers, seed=st.integers(0, 99))
@settings(max_examples=40)
def test_wpo_weights_are_the_exponential_of_the_mean_aligned_log_probability(rows, seed):
    values, answer, row_of = flat(rows)
    rng = random.Random(seed)
    log_p2 = torch.tensor([-rng.uniform(0, 3) for _ in values], dtype=torch.float64)
    found = wpo_weights(values, log_p2, answer, len(row_of))
    expected = []
    for i in range(len(row_of)):
        mine = [j for j in range(len(values)) if answer[j] == i]
        mean = sum(values[j].item() - log_p2[j].item() for j in mine) / max(len(mine), 1)
        expected.append(math.exp(mean))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_wpo_weights_carry_no_gradient_and_a_sampled_token_of_a_uniform_policy_weighs_1():
    """Uniform over V: log π = −log V and log Σ π² = −log V, so every weight is exp 0."""
    values = torch.full((3,), -math.log(7), dtype=torch.float64, requires_grad=True)
    weights = wpo_weights(values, values.detach().clone(), torch.tensor([0, 0, 1]), 2)
    assert not weights.requires_grad
    assert weights.tolist() == pytest.approx([1.0, 1.0])
