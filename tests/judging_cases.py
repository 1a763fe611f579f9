"""Comparisons made by hand for the tests of raters."""

from __future__ import annotations

from prefkit.core.records import Comparison, Completion, Message, Prompt

GOOD = "A bee is a small flying insect."
BAD = "A bee is an insect. It flies. It hums. It stings. It makes honey."


def comparison(one: str, other: str, *, tag: str = "one_sentence", question: str = "A bee?"):
    """(the comparison, the slot in which ``one`` stands)."""
    prompt = Prompt.make([Message.of("user", question)], tags={"format": tag} if tag else {})
    first, second = (
        Completion.make(prompt.id, [Message.of("assistant", text)], "model", sample_index=i)
        for i, text in enumerate((one, other))
    )
    made = Comparison.make(prompt, first, second)
    return made, "a" if made.a.id == first.id else "b"


def many(n: int) -> tuple[list[Comparison], list[str]]:
    """``n`` comparisons of a good with a bad answer, and where the good one stands."""
    made = [comparison(GOOD, BAD, question=f"Bee number {i}?") for i in range(n)]
    return [c for c, _ in made], [slot for _, slot in made]
