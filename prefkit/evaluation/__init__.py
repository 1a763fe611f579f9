"""What a policy is worth: win rates with intervals, held-out reward accuracy, answer lengths.

    answers.py   greedy answers, and how long they are
    win_rate.py  wins, ties and losses over prompts
    interval.py  the 95 % interval
    accuracy.py  the implicit reward against labels
    run.py       evaluate()

Who decides which answer is better is an argument: this package knows no rater.
"""

from prefkit.evaluation.accuracy import Accuracy, reward_accuracy
from prefkit.evaluation.answers import AnswerLengths, answer_lengths, greedy_answers
from prefkit.evaluation.interval import score_interval
from prefkit.evaluation.run import Evaluation, Sample, compare_answers, evaluate
from prefkit.evaluation.settings import EvaluateSettings
from prefkit.evaluation.win_rate import Verdict, WinRate, win_rate

__all__ = [
    "Accuracy",
    "AnswerLengths",
    "EvaluateSettings",
    "Evaluation",
    "Sample",
    "Verdict",
    "WinRate",
    "answer_lengths",
    "compare_answers",
    "evaluate",
    "greedy_answers",
    "reward_accuracy",
    "score_interval",
    "win_rate",
]
