"""The two ways to add a rater, as CONTRIBUTING.md shows them."""

from __future__ import annotations

import pytest
from judging_cases import comparison, many

from prefkit.core.errors import ConfigError
from prefkit.judging import (
    Judged,
    JudgeSettings,
    judge,
    machine_vote,
    rater_names,
    register_rater,
    register_rule,
)
from prefkit.judging.raters import RATERS
from prefkit.judging.rules import RULES


@pytest.fixture(autouse=True)
def _registries_as_they_were():
    before = dict(RULES._entries), dict(RATERS._entries)
    yield
    RULES._entries, RATERS._entries = before


def test_a_rule_of_four_lines_votes():
    @register_rule("polite")
    def polite(prompt, answer):
        """1 for an answer that says please or thank you, else 0."""
        return float(any(word in answer.lower() for word in ("please", "thank you")))

    made, slot = comparison("Please take one.", "Take one.")
    (vote,) = judge([made], JudgeSettings(rater="polite")).votes
    assert (vote.choice, vote.strength, vote.rater) == (slot, 3, "rule:polite")


def test_a_rater_of_ten_lines_votes():
    @register_rater("shorter")
    class Shorter:
        """Prefers the answer with fewer characters."""

        def __init__(self, context):
            self.context = context

        def compare(self, comparisons):
            shorter = {True: "a", False: "b"}
            return Judged(
                [
                    machine_vote(c, "shorter", shorter[len(c.a.text) < len(c.b.text)])
                    for c in comparisons
                ],
                failed={},
            )

    made, slot = comparison("Take it.", "Take one of them.")
    (vote,) = judge([made], JudgeSettings(rater="shorter")).votes
    assert vote.choice == slot
    assert {"shorter", "format", "llm"} <= set(rater_names())


def test_an_unknown_rater_names_the_known_ones():
    with pytest.raises(ConfigError, match="unknown rater 'fromat'; did you mean 'format'") as error:
        judge(many(1)[0], JudgeSettings(rater="fromat"))
    assert "llm" in (error.value.hint or "")
