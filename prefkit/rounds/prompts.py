"""Which prompts a project trains on and which it holds out, and how rounds share them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from prefkit.core.errors import DataError
from prefkit.core.ids import content_id
from prefkit.core.records import Prompt
from prefkit.core.rng import derive_rng
from prefkit.formats.load import load_prompts


@dataclass(frozen=True, slots=True)
class RoundPrompts:
    """The training and held-out prompts of a project; no prompt is in both."""

    training: tuple[Prompt, ...]
    heldout: tuple[Prompt, ...]

    @classmethod
    def read(cls, path: Path, *, n_heldout: int, seed: int) -> Self:
        """Read the prompts file; DataError where nothing is left to train on.

        Prompts tagged ``split: heldout`` are held out. Where none is tagged, ``n_heldout``
        prompts (at most a third) are drawn by seed.
        """
        unique = {prompt.id: prompt for prompt in load_prompts(path)}
        prompts = list(unique.values())
        tagged = [p for p in prompts if p.tags.get("split") == "heldout"]
        if tagged:
            chosen = {p.id for p in tagged}
        else:
            wanted = min(n_heldout, len(prompts) // 3)
            drawn = derive_rng("heldout prompts", seed).sample(prompts, wanted)
            chosen = {p.id for p in drawn}
        training = tuple(p for p in prompts if p.id not in chosen)
        heldout = tuple(p for p in prompts if p.id in chosen)
        if not training or not heldout:
            raise DataError(
                f"{path}: {len(prompts)} prompts are too few: at least one to train on and one "
                "to hold out are needed",
                hint="add prompts, one JSON object a line",
            )
        return cls(training, heldout)

    @property
    def digest(self) -> str:
        """Of both lists, in order."""
        return content_id([[p.id for p in self.training], [p.id for p in self.heldout]])

    def of_round(self, number: int, wanted: int, seed: int) -> tuple[list[Prompt], int]:
        """The prompts of round ``number`` (from 1), and how many were asked in a round before.

        Rounds take consecutive slices of one seeded shuffle; after its end it starts again.
        """
        order = list(self.training)
        derive_rng("prompt order", seed).shuffle(order)
        wanted = min(wanted, len(order))
        first = (number - 1) * wanted
        chosen = [order[index % len(order)] for index in range(first, first + wanted)]
        reused = sum(index >= len(order) for index in range(first, first + wanted))
        return chosen, reused
