"""Seeds derived from what they are for. No function of prefkit uses a global generator."""

from __future__ import annotations

import random

from prefkit.core.ids import content_id


def derive_seed(*parts: str | int) -> int:
    """A seed in [0, 2**31) that depends on ``parts`` alone.

    Neighbouring rows get unrelated seeds; vLLM gives sample i the seed ``seed + i``, so
    ``seed = base + row`` would hand one stream to several rows.
    """
    return int(content_id(list(parts))[:8], 16) & 0x7FFFFFFF


def derive_rng(*parts: str | int) -> random.Random:
    """A random.Random seeded by ``derive_seed(*parts)``."""
    return random.Random(derive_seed(*parts))
