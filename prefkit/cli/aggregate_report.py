"""The page of ``prefkit aggregate``: which method predicts votes it has not seen, and how well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from prefkit.aggregation import Aggregated
from prefkit.aggregation.crossval import Evaluation, MethodScore
from prefkit.aggregation.scores import Interval
from prefkit.core.records import Preference
from prefkit.report import Bar, Report

FEWEST_IN_BIN = 20
# At most as many lines as the plot has colours, without the straight one.
DRAWN = ("vote_share", "majority")
HOW = (
    "Each held-out vote is predicted from the other votes on its comparison, with raters and "
    "strengths learned from other comparisons (five folds). The temperature, and for auto the "
    "method, is chosen inside the training folds, so what picks is not what scores. A tie is half "
    "a vote for each side. Intervals are 95 %, comparisons resampled."
)


def write_report(path: Path, made: Aggregated, counts: Mapping[str, int], *, place: str) -> Path:
    """Write the page of the votes of ``place``; the path it has.

    counts: what ``counted_votes`` counted.
    """
    report = Report(f"Votes of {place}", subtitle=summary(made))
    report.facts(
        {
            "votes": counts["n_votes"],
            "counted": counts["n_counted"],
            "comparisons": counts["n_comparisons"],
            "with a preference": len(made.preferences),
            "method": made.method,
            "temperature": made.temperature,
        }
    )
    if made.evaluation is None:
        report.heading("Uncalibrated", uncalibrated_text(made))
    else:
        _add_scores(report, made.evaluation)
        _add_reliability(report, made.evaluation, made.method)
    _add_sureness(report, made.preferences)
    return report.write(path)


def summary(made: Aggregated) -> str:
    """The method in a line."""
    if made.uncalibrated is not None:
        return f"{made.method}, uncalibrated: {made.uncalibrated}"
    if made.temperature is None:
        return made.method
    return f"{made.method}, temperature {made.temperature:.3g}"


def uncalibrated_text(made: Aggregated) -> str:
    """What it means that nothing was scored."""
    return (
        f"{made.uncalibrated}. How far these probabilities can be trusted was not measured: that "
        "takes comparisons with two votes or more (annotate.k in prefkit.yaml)."
    )


def score_rows(evaluation: Evaluation) -> list[list[str]]:
    """A row a method: name, log-loss, difference to the vote share, Brier, τ; auto last."""
    rows = [*evaluation.methods, evaluation.auto]
    return [
        [
            f"{score.name} (picked)" if score.name == evaluation.picked else score.name,
            interval(score.log_loss),
            "" if score.versus is None else interval(score.versus, signed=True),
            interval(score.brier),
            f"{score.calibration_error:.3f}",
            f"{score.temperature:.3g}",
            f"{score.raw_log_loss:.4f}",
        ]
        for score in rows
    ]


def interval(found: Interval, *, signed: bool = False) -> str:
    """``0.6012 [0.5901, 0.6120]``."""
    form = "+.4f" if signed else ".4f"
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


def _add_scores(report: Report, evaluation: Evaluation) -> None:
    report.heading("Which method predicts votes that it has not seen?", HOW)
    left_out = "; ".join(f"{name}: {why}" for name, why in evaluation.left_out.items())
    report.bar_plot(
        [
            Bar(score.name, score.versus.value, score.versus.low, score.versus.high)
            for score in (*evaluation.methods, evaluation.auto)
            if score.versus is not None
        ],
        title="Log-loss of held-out votes less that of the vote share",
        y_label="nats a vote; left of 0 predicts better",
        reference=0.0,
        percent=False,
        note=f"{evaluation.n_votes} held-out votes on {evaluation.n_comparisons} comparisons.",
    )
    report.table(
        [
            "method",
            "log-loss",
            "less vote_share's",
            "Brier",
            "calibration error",
            "temperature",
            "before it",
        ],
        score_rows(evaluation),
        title="Scores",
        note=f"Not scored: {left_out}." if left_out else "",
    )


def _add_reliability(report: Report, evaluation: Evaluation, method: str) -> None:
    shown: dict[str, MethodScore] = {}
    for name in (method, *DRAWN):
        if name not in evaluation.left_out:
            shown.setdefault(name, evaluation.score(name))
    series: dict[str, Sequence[tuple[float, float | None]]] = {
        "as it should be": [(0.5, 0.5), (1.0, 1.0)]
    }
    for name, score in shown.items():
        series[name] = [(b.p, b.share) for b in score.bins if b.n_votes >= FEWEST_IN_BIN]
    report.line_plot(
        series,
        title="Reliability: how often the likelier side got the held-out vote",
        x_label="probability given to the likelier side",
        y_label="share of the votes for it",
        note=f"Bins with fewer than {FEWEST_IN_BIN} votes are not drawn.",
    )
    if method in shown:
        report.table(
            ["p of the likelier side", "held-out votes", "mean p", "share for it"],
            [[f"{b.low:.2f} to {b.high:.2f}", b.n_votes, b.p, b.share] for b in shown[method].bins],
            title=f"Reliability of {method}",
        )


def _add_sureness(report: Report, preferences: Sequence[Preference]) -> None:
    if not preferences:
        return
    n_of = [0] * 10
    for preference in preferences:
        sure = max(preference.p_a, 1 - preference.p_a)
        n_of[min(int((sure - 0.5) * 20), 9)] += 1
    report.bar_plot(
        [
            Bar(f"{0.5 + i / 20:.2f} to {0.55 + i / 20:.2f}", n / len(preferences))
            for i, n in enumerate(n_of)
        ],
        title="How sure the preferences are",
        y_label="share of the comparisons by p of the likelier side",
        note="These are the labels that training takes.",
    )
