"""Raters that are machines: rules that score an answer, a model as judge, a reward model.

rules.py         score one answer by what can be checked by eye
rule_rater.py    scores → votes, ties, strength, label noise
llm_judge.py     a model asked in both orders
reward_rater.py  a reward model's σ(r_a − r_b)
raters.py        the seam and the registry
run.py           judge()
"""

from prefkit.judging.llm_judge import LlmJudge
from prefkit.judging.raters import Rater, RaterContext, rater_names, register_rater
from prefkit.judging.reward_rater import RewardRater
from prefkit.judging.rule_rater import RuleRater
from prefkit.judging.rules import register_rule, rule_verdict, score
from prefkit.judging.run import judge
from prefkit.judging.settings import JudgeSettings
from prefkit.judging.votes import Judged, machine_vote

__all__ = [
    "JudgeSettings",
    "Judged",
    "LlmJudge",
    "Rater",
    "RaterContext",
    "RewardRater",
    "RuleRater",
    "judge",
    "machine_vote",
    "rater_names",
    "register_rater",
    "register_rule",
    "rule_verdict",
    "score",
]
