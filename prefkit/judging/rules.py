"""Rules: functions that score one answer by what a reader can check by eye.

A rule takes a prompt and the text of an answer and returns a score in [0, 1], or None where it
has no opinion. It knows nothing of votes, noise or models; rule_rater.py turns scores into votes.

What counts, throughout: a word is a run of characters between spaces that holds a letter or a
digit; a bullet is a line that starts with "- ", "* ", "• ", "1. " or "1) "; a sentence ends with
. ! or ? before a space or the end of a line, and every line ends what stands on it. An answer is
finished if it ends with . ! or ? (closing quotes, brackets and asterisks may follow).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from prefkit.core.records import Prompt
from prefkit.core.registry import Registry

Rule = Callable[[Prompt, str], float | None]
RULES: Registry[Rule] = Registry("rule", "prefkit.rules")

TIE_BELOW = 0.1
MIN_WORDS = 5
UNFINISHED_COSTS = 0.3

_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+")
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]*]*(?=\s|$)")
_FINISHED = re.compile(r"[.!?][\"'”’)\]*]*$")
# A full stop after these ends no sentence.
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|vs|Mr|Mrs|Ms|Dr|St|No|approx)\.(?=\s+\S)")


def register_rule(name: str) -> Callable[[Rule], Rule]:
    """``@register_rule("name")``: the function becomes a rule and ``--rater name`` works."""
    return RULES.decorator(name)


def score(prompt: Prompt, answer: str, *, rule: str = "format") -> float | None:
    """The score of ``answer`` under a registered rule, in [0, 1]; None for no opinion.

    Raises ConfigError for an unknown rule, ValueError for a rule that leaves [0, 1].
    """
    value = RULES.get(rule)(prompt, answer)
    if value is not None and not 0.0 <= value <= 1.0:
        raise ValueError(f"rule {rule!r} returned {value!r}; a score is in [0, 1] or None")
    return value


def score_difference(rule: str, prompt: Prompt, one: str, other: str) -> float | None:
    """score(one) − score(other), in [−1, 1]; None where the rule has no opinion on either."""
    first, second = score(prompt, one, rule=rule), score(prompt, other, rule=rule)
    return None if first is None or second is None else first - second


def rule_verdict(
    rule: str, prompt: Prompt, one: str, other: str, *, tie_below: float = TIE_BELOW
) -> float | None:
    """The rule's clean word: 1 if it prefers ``one``, 0 for ``other``, 0.5 for a tie, or None.

    A tie is a difference of scores below ``tie_below``.
    """
    difference = score_difference(rule, prompt, one, other)
    if difference is None:
        return None
    return 0.5 if abs(difference) < tie_below else float(difference > 0)


@register_rule("format")
def format_rule(prompt: Prompt, answer: str) -> float | None:
    """How well the answer obeys ``prompt.tags["format"]``; None where the tag says nothing known.

    max_words:N   1 for 5 to N words; above N falling in a straight line to 0 at 2N; below 5
                  words a fifth for each word. Minus 0.3 if unfinished.
    one_sentence  1 over the number of sentences (1, 1/2, 1/3 …); below 5 words times a fifth for
                  each word. Minus 0.3 if unfinished.
    bullets:K     the smaller over the larger of K and the number of distinct bullets, times the
                  share of lines that are such bullets.

    An answer without words, or in which one word makes up more than half of four or more, is 0.
    """
    name, _, argument = prompt.tags.get("format", "").partition(":")
    number = int(argument) if argument.isdecimal() and int(argument) > 0 else None
    if name == "one_sentence" and not argument:
        graded = _one_sentence
    elif name == "max_words" and number:
        graded = lambda text: _max_words(text, number)  # noqa: E731
    elif name == "bullets" and number:
        graded = lambda text: _bullets(text, number)  # noqa: E731
    else:
        return None
    return 0.0 if is_degenerate(answer) else graded(answer)


def words(text: str) -> list[str]:
    """The words of ``text`` in lower case, without the punctuation around them."""
    bare = (token.strip("\"'“”‘’()[]{}*_.,;:!?-–—…").lower() for token in text.split())
    return [word for word in bare if any(c.isalnum() for c in word)]


def is_degenerate(text: str) -> bool:
    """Whether ``text`` has no words, or one word makes up more than half of four or more."""
    counted = Counter(words(text))
    total = counted.total()
    return total == 0 or (total >= 4 and max(counted.values()) * 2 > total)


def is_finished(text: str) -> bool:
    """Whether ``text`` ends like a sentence; one cut off at its token limit does not."""
    return _FINISHED.search(text.rstrip()) is not None


def n_sentences(text: str) -> int:
    """How many sentences ``text`` has; bullet markers and common abbreviations end none."""
    count = 0
    for line in _lines(text):
        body = _ABBREVIATION.sub("", _BULLET.sub("", line))
        pieces = _SENTENCE_END.split(body)
        count += sum(1 for piece in pieces if words(piece))
    return count


def _max_words(answer: str, limit: int) -> float:
    n = len(words(answer))
    over = 1.0 if n <= limit else max(0.0, 2.0 - n / limit)
    return _less_if_unfinished(over * min(1.0, n / min(MIN_WORDS, limit)), answer)


def _one_sentence(answer: str) -> float:
    enough = min(1.0, len(words(answer)) / MIN_WORDS)
    return _less_if_unfinished(enough / max(1, n_sentences(answer)), answer)


def _bullets(answer: str, wanted: int) -> float:
    lines = _lines(answer)
    bullets = {tuple(words(_BULLET.sub("", line))) for line in lines if _BULLET.match(line)}
    # A bullet of digits only ("1. 1.1") says nothing.
    told = {bullet for bullet in bullets if any(c.isalpha() for word in bullet for c in word)}
    n = len(told)
    return min(n, wanted) / max(n, wanted) * n / len(lines)


def _less_if_unfinished(value: float, answer: str) -> float:
    return value if is_finished(answer) else max(0.0, value - UNFINISHED_COSTS)


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if words(line)]
