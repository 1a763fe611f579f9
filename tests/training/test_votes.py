"""Votes in data are a user's: of a wrong type they are a fault that names the row, no traceback."""

import pytest

from prefkit.core.errors import DataError
from prefkit.training.votes import read_votes


@pytest.mark.parametrize("choice", ['["a"]', "{}", "3", "null", "true", '"left"'])
def test_a_choice_of_any_wrong_type_names_the_row(choice):
    with pytest.raises(DataError, match=r"row r7: a vote's choice is .*; expected a, b,"):
        read_votes(f'[{{"choice": {choice}}}]', None, row="r7")


@pytest.mark.parametrize("kind", ["[]", "{}", "null"])
def test_an_odd_kind_is_no_reason_to_refuse_a_vote(kind):
    (vote,) = read_votes(f'[{{"choice": "b", "kind": {kind}}}]', None, row="r7")
    assert (vote.share, vote.error_rate) == (0.0, None)
