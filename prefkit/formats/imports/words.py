"""What a rater's word means: which of a row's two answers, and how much better it is.

Only what cannot be misread is known by itself; every other word is said by the user
(``--choice 'Response B wins=b'``). A wrong guess would turn preferences round.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from prefkit.core.errors import ConfigError
from prefkit.core.records import CHOICES, Choice
from prefkit.formats.imports.source import Level, Ranks

FIRST, SECOND = "a", "b"  # of the row; slots are given later
_GIVEN = tuple(choice for choice in CHOICES if choice != "withdrawn")
_ANSWER = (
    r"(?:(?:the )?(?:response|answer|completion|option|text|model|output|reply|summary|assistant|"
    r"candidate|side)\s?)"
)
_SIDE = re.compile(
    rf"(?:{_ANSWER}?(?P<letter>a|b|left|right|first|second)|{_ANSWER}(?P<digit>1|2))"
    r"(?: (?:answer|response|one|side))?"
    r"(?:(?: is)?(?: (?P<much>slightly|much|significantly|far))? (?:better|preferred|wins))?"
)
_SLOTS = {"a": FIRST, "left": FIRST, "first": FIRST, "1": FIRST}
_STRENGTH = {"slightly": 1, "much": 3, "significantly": 3, "far": 3}
_TIES = {
    "tie", "equal", "equally good", "same", "the same", "about the same", "no preference", "draw",
    "both good", "both are good",
}  # fmt: skip
_OTHERS: dict[str, Choice] = {
    "both bad": "both_bad",
    "both are bad": "both_bad",
    "bothbad": "both_bad",
    "tie (bothbad)": "both_bad",
    "invalid": "invalid",
    "skip": "skip",
    "skipped": "skip",
}
# A hyphen joins two words ("model-b") or is a sign: "-1" and "1" are opposite ends of a scale.
_BETWEEN = re.compile(r"[\s_]+(?:-+[\s_]+)*|(?<=\w)-+(?=\w)")


@dataclass(frozen=True, slots=True)
class Said:
    """A choice (a: the row's first answer) and its strength, None where it was not said."""

    choice: Choice
    strength: int | None = None


class Words:
    """The words of one export. given: theirs → ours, as ``--choice`` takes them.

    names: what the two answers are called there; scale: the end of a scale that runs from
    −scale (the first is much better) to scale.
    """

    def __init__(
        self,
        given: dict[str, Said] | None = None,
        *,
        names: tuple[str, str] | None = None,
        scale: float = 3,
    ) -> None:
        self._given = {_plain(word): said for word, said in (given or {}).items()}
        self._names = {} if names is None else dict(zip(map(_plain, names), "ab", strict=True))
        self._scale = scale

    def named(self, names: tuple[str, str]) -> Words:
        """The same words for answers that are called ``names``."""
        found = Words(names=names, scale=self._scale)
        found._given = self._given
        return found

    def meaning(self, said: str | Ranks | Level) -> Said:
        """What was said; ValueError for what has no certain meaning."""
        if isinstance(said, Level):
            return self._of_level(said.value)
        if isinstance(said, Ranks):
            return self._of_ranks(said)
        word = _plain(said)
        if word in self._given:
            return self._given[word]
        if word in self._names:
            return Said(cast(Choice, self._names[word]))
        if word in _TIES:
            return Said("tie", 0)
        if word in _OTHERS:
            return Said(_OTHERS[word])
        found = _SIDE.fullmatch(word)
        if found is None:
            raise ValueError(f"{_short(said)} says neither which answer is better nor a tie")
        slot = _SLOTS.get(found["letter"] or found["digit"], SECOND)
        return Said(cast(Choice, slot), _STRENGTH.get(found["much"]))

    def _of_level(self, value: float) -> Said:
        """Strength in three equal steps from the middle of the scale to its end."""
        if not math.isfinite(value) or abs(value) > self._scale:
            raise ValueError(
                f"{value:g} is not on the scale from −{self._scale:g} to {self._scale:g}"
            )
        if value == 0:
            return Said("tie", 0)
        return Said(FIRST if value < 0 else SECOND, math.ceil(3 * abs(value) / self._scale))

    def _of_ranks(self, said: Ranks) -> Said:
        if len(said.of) != 2:
            raise ValueError(f"a ranking of {len(said.of)} answers; expected two")
        (one, first), (other, second) = said.of
        sides = {self.meaning(one).choice: first, self.meaning(other).choice: second}
        if sides.keys() != {FIRST, SECOND}:
            raise ValueError(f"{_short(one)} and {_short(other)} are not the two answers")
        if sides[FIRST] == sides[SECOND]:
            return Said("tie", 0)
        return Said(FIRST if sides[FIRST] < sides[SECOND] else SECOND)


def parse_choices(words: Sequence[str] | None) -> dict[str, Said]:
    """``--choice 'THEIRS=OURS'`` or ``'THEIRS=OURS:STRENGTH'``; ConfigError for anything else, and
    for one word with two meanings.
    """
    found: dict[str, Said] = {}
    for word in words or ():
        theirs, equals, ours = word.rpartition("=")
        choice, colon, strength = ours.strip().partition(":")
        known = choice in _GIVEN and (not colon or strength in ("0", "1", "2", "3"))
        if not equals or not theirs.strip() or not known:
            raise ConfigError(
                f"--choice {word!r}: expected THEIRS=OURS, OURS one of {', '.join(_GIVEN)}, "
                "with :1, :2 or :3 for how much better",
                hint="--choice 'Response A is better=a:2'",
            )
        said = Said(cast(Choice, choice), int(strength) if colon else None)
        if found.setdefault(_plain(theirs), said) != said:
            raise ConfigError(
                f"--choice {word!r}: this word has another meaning already",
                hint="give each word one; case and full stops do not tell two words apart",
            )
    return found


def _plain(word: str) -> str:
    return " ".join(_BETWEEN.split(word.strip().casefold())).strip(" .!")


def _short(word: str) -> str:
    return repr(word if len(word) <= 40 else f"{word[:37]}...")
