"""The verb: comparisons in, a machine's votes out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from prefkit.core.progress import Progress, silent
from prefkit.core.records import Comparison
from prefkit.judging.raters import RaterContext, make_rater
from prefkit.judging.settings import JudgeSettings
from prefkit.judging.votes import Judged


def judge(
    comparisons: Sequence[Comparison],
    settings: JudgeSettings | None = None,
    *,
    journal: Path | None = None,
    progress: Progress = silent,
) -> Judged:
    """The votes of the rater that ``settings`` names, at most one a comparison.

    Vote ids depend on the comparison, the rater and its settings, so adding the votes to a store
    twice adds them once. journal: a folder in which a model judge keeps its replies and goes on
    after a kill; None for a temporary one. Raises ConfigError for an unknown rater.
    """
    settings = settings or JudgeSettings()
    progress("judge", 0, len(comparisons))
    with tempfile.TemporaryDirectory(prefix="prefkit-judge-") as scratch:
        context = RaterContext(settings, journal or Path(scratch), progress)
        judged = make_rater(context).compare(comparisons)
    progress("judge", len(comparisons), len(comparisons))
    return judged
