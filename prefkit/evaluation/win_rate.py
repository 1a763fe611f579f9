"""How often one policy's answer is preferred to another's, prompt by prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prefkit.core.errors import DataError
from prefkit.core.records import Completion, Prompt
from prefkit.evaluation.interval import score_interval

# verdict(prompt, new answer, base answer): 1, 0.5 or 0 (or between); None for no verdict.
Verdict = Callable[[Prompt, str, str], float | None]


@dataclass(frozen=True, slots=True)
class WinRate:
    """The share of prompts won, a tie counting ½, with a 95 % score interval over prompts.

    n_prompts = n_wins + n_ties + n_losses. Not among them: n_skipped prompts on which there was no
    verdict, n_unanswered prompts that an engine left without an answer on either side.
    """

    win_rate: float
    ci95: tuple[float, float]
    n_prompts: int
    n_wins: int
    n_ties: int
    n_losses: int
    n_skipped: int
    n_unanswered: int


def win_rate(
    prompts: Sequence[Prompt],
    new: Sequence[Completion],
    base: Sequence[Completion],
    verdict: Verdict,
) -> WinRate:
    """How often ``new`` beats ``base``; one answer a prompt on each side, matched by prompt id.

    Raises DataError where a prompt has two answers on a side, or no prompt gets a verdict.
    """
    news, bases = _by_prompt(new), _by_prompt(base)
    answered = [prompt for prompt in prompts if prompt.id in news and prompt.id in bases]
    outcomes: list[float] = []
    for prompt in answered:
        outcome = verdict(prompt, news[prompt.id].text, bases[prompt.id].text)
        if outcome is not None:
            outcomes.append(outcome)
    if not outcomes:
        raise DataError(
            f"none of the {len(prompts)} prompts got a verdict ({len(answered)} were answered)",
            hint="does the rule know these prompts? The rule format reads tags.format",
        )
    return WinRate(
        win_rate=sum(outcomes) / len(outcomes),
        ci95=score_interval(outcomes),
        n_prompts=len(outcomes),
        n_wins=sum(x > 0.5 for x in outcomes),
        n_ties=sum(x == 0.5 for x in outcomes),
        n_losses=sum(x < 0.5 for x in outcomes),
        n_skipped=len(answered) - len(outcomes),
        n_unanswered=len(prompts) - len(answered),
    )


def _by_prompt(answers: Sequence[Completion]) -> dict[str, Completion]:
    found: dict[str, Completion] = {}
    for answer in answers:
        if answer.prompt_id in found:
            raise DataError(f"prompt {answer.prompt_id}: two answers; a win rate takes one each")
        found[answer.prompt_id] = answer
    return found
