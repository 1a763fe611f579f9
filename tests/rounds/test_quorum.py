from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.core.records import Comparison, Completion, Message, Prompt, Vote
from prefkit.rounds.quorum import count_answers, quorum


def comparison(number: int) -> Comparison:
    prompt = Prompt.make([Message.of("user", f"question {number}")])
    one, other = (
        Completion.make(prompt.id, [Message.of("assistant", text)], "model") for text in "xy"
    )
    return Comparison.make(prompt, one, other)


def vote(on: Comparison, choice: str = "a", replaces: str | None = None) -> Vote:
    return Vote(
        id=str(uuid4()),
        task_id="task",
        comparison_id=on.id,
        rater="rater",
        rater_kind="human",
        choice=choice,  # type: ignore[arg-type]
        at=datetime.now(UTC),
        replaces=replaces,
    )


def test_a_skip_and_a_withdrawn_vote_are_no_answers() -> None:
    one = comparison(1)
    first = vote(one)
    undone = vote(one, "withdrawn", replaces=first.id)
    assert count_answers([first])[one.id] == 1
    assert count_answers([first, undone, vote(one, "skip")])[one.id] == 0


def test_both_bad_and_invalid_are_answers() -> None:
    one = comparison(1)
    assert count_answers([vote(one, "both_bad"), vote(one, "invalid")])[one.id] == 2


@pytest.mark.parametrize(("share", "wanted"), [(1.0, 100), (0.07, 7), (0.071, 8), (0.005, 1)])
def test_the_quorum_is_rounded_up_exactly(share: float, wanted: int) -> None:
    comparisons = [comparison(number) for number in range(100)]
    assert quorum(comparisons, [], k=1, share=share).wanted == wanted


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 3))
def test_a_comparison_is_done_exactly_when_it_has_k_answers(chosen: list[int], k: int) -> None:
    comparisons = [comparison(number) for number in range(5)]
    votes = [vote(comparisons[index]) for index in chosen]
    expected = sum(chosen.count(index) >= k for index in range(5))
    assert quorum(comparisons, votes, k=k, share=1.0).done == expected
