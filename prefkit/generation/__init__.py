"""Sampling plans, the candidates' journal, pairing policies."""

from prefkit.generation.pairing import PAIRINGS, pair
from prefkit.generation.sampling import Generated, generate
from prefkit.generation.settings import GenerateSettings

__all__ = ["PAIRINGS", "GenerateSettings", "Generated", "generate", "pair"]
