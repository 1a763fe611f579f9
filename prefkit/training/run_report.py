"""The report of a training run: one HTML file, made from what the run wrote beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prefkit.core.records import text_of
from prefkit.formats.values import messages_value
from prefkit.report import Report, Sample
from prefkit.report.page import Value
from prefkit.training.alarms import sounded_in
from prefkit.training.metrics import calibration
from prefkit.training.monitor import EVALUATIONS, METRICS, ROWS, SAMPLES
from prefkit.training.worst import WORST

REPORT = "report.html"
MOST_POINTS = 100
# Of a figure that few rows determine.
FEW_POINTS = 30
N_PAIRS = 12
N_SAMPLES = 12
Lines = Sequence[Mapping[str, Any]]
Series = dict[str, list[tuple[float, float | None]]]


def write_run_report(
    out: Path,
    facts: Mapping[str, Value],
    *,
    title: str = "Training run",
    subtitle: str = "",
    first_loss: float | None = None,
) -> Path:
    """Write OUT/report.html from the files that the monitor left in ``out``; the path it has.

    facts: names and values for the top of the page. first_loss: where the loss starts, drawn as a
    dashed line.
    """
    lines, evaluations = _read(out / METRICS), _read(out / EVALUATIONS)
    report = Report(title, subtitle=subtitle).facts(facts)
    _add_alarms(report, lines)
    _add_learning(report, lines, evaluations, first_loss)
    _add_calibration(report, out, evaluations)
    _add_length(report, lines)
    _add_drift(report, lines, evaluations)
    _add_optimiser(report, lines)
    _add_worst(report, out)
    _add_samples(report, out)
    return report.write(out / REPORT)


def _add_alarms(report: Report, lines: Lines) -> None:
    alarms = sounded_in(lines)
    if not alarms:
        report.heading("Alarms", "None sounded.")
        return
    report.heading("Alarms")
    report.table(
        ["step", "what", "try"],
        [[alarm.step, alarm.message, "; ".join(alarm.remedies)] for alarm in alarms],
    )


def _add_learning(
    report: Report, lines: Lines, evaluations: Lines, first_loss: float | None
) -> None:
    report.heading("What was learnt")
    both = {"training": lines, "held out": evaluations}
    _plot(report, "Loss", {n: (ls, "loss") for n, ls in both.items()}, reference=first_loss)
    _plot(
        report,
        "Reward accuracy",
        {n: (ls, "reward_accuracy") for n, ls in both.items()},
        reference=0.5,
        note="The part of the rows whose answers the policy ranks as their labels do.",
        most=FEW_POINTS,
    )
    _plot(
        report,
        "Reward margin",
        {n: (ls, "reward_margin") for n, ls in both.items()},
        reference=0.0,
        note="The reward of the chosen answer minus that of the rejected one; a reward is β times "
        "the log-ratio of policy and reference.",
    )
    sides = {"chosen": (lines, "chosen_reward"), "rejected": (lines, "rejected_reward")}
    _plot(report, "Rewards of both sides", sides, reference=0.0)
    sides = {"chosen": (lines, "chosen_logp"), "rejected": (lines, "rejected_logp")}
    _plot(
        report,
        "Log-probabilities of both sides",
        sides,
        note="Nats, summed over an answer. Both may fall while the margin grows; where the chosen "
        "side falls far, the policy unlearns what it should prefer.",
    )
    _plot(report, "Loss of demonstrations", {"nll a token": (lines, "nll_per_token")})


def _add_calibration(report: Report, out: Path, evaluations: Lines) -> None:
    source, bins = "held-out pairs", None
    if evaluations and evaluations[-1].get("bins"):
        bins = [tuple(part) for part in evaluations[-1]["bins"]]
        report.heading("Calibration")
        report.facts({"ECE": evaluations[-1].get("ece"), "Brier": evaluations[-1].get("brier")})
    else:
        margin, p = _last_margins(out / ROWS)
        if not len(p):
            return
        source = "training pairs, as each was seen last"
        found = calibration(margin, p)
        bins = list(found.bins)
        report.heading("Calibration")
        report.facts({"ECE": found.ece, "Brier": found.brier})
    report.line_plot(
        {
            "policy": [(said, true) for _, said, true in bins],
            "as it should be": [(0.0, 0.0), (1.0, 1.0)],
        },
        title="What the policy implies against what the labels say",
        x_label="σ(reward margin)",
        y_label="p(chosen wins)",
        note=f"Mean label of the {source} in each tenth of σ(margin).",
    )


def _add_length(report: Report, lines: Lines) -> None:
    if not _points(lines, "length_margin_corr"):
        return
    report.heading("Length")
    _plot(
        report,
        "Does the reward follow length?",
        {"with the margin": (lines, "length_margin_corr"), "with p": (lines, "length_p_corr")},
        y_label="correlation",
        reference=0.0,
        note="Correlation of how much longer the chosen answer is with its reward margin, and with "
        "its label. A margin that follows length more than the labels do is a shortcut.",
        most=FEW_POINTS,
    )


def _add_drift(report: Report, lines: Lines, evaluations: Lines) -> None:
    series = {"chosen": (lines, "chosen_logratio"), "all answers": (lines, "mean_logratio")}
    if not any(_points(found, key) for found, key in series.values()):
        return
    report.heading("Distance from the reference")
    _plot(
        report,
        "Mean log-ratio",
        series,
        reference=0.0,
        note="log π − log π_ref of the answers in the data, in nats. This is no KL: the answers "
        "are not the policy's own.",
    )
    _plot(
        report,
        "KL from sampled answers",
        {"mean": (evaluations, "kl"), "k3": (evaluations, "kl_k3")},
        y_label="nats",
        reference=0.0,
        note="Nats an answer, from answers drawn from the policy at temperature 1: the mean of the "
        "log-ratio, and Schulman's k3 summed over tokens, which varies less.",
    )


def _add_optimiser(report: Report, lines: Lines) -> None:
    report.heading("The optimiser")
    _plot(report, "Gradient norm before clipping", {"norm": (lines, "grad_norm")})
    _plot(report, "Learning rate", {"rate": (lines, "learning_rate")})
    _plot(report, "Entropy of the policy", {"nats a token": (lines, "entropy")})
    _plot(
        report,
        "Speed",
        {"tokens/s": (lines, "tokens_per_second")},
        note="Tokens of prompt and answer, each prompt counted once an answer, as trainers that "
        "do not share prompts count them.",
    )


def _add_worst(report: Report, out: Path) -> None:
    rows = _read(out / WORST)
    if not rows:
        return
    # Raw text has no prompt that people could be asked about.
    how = f": prefkit annotate {WORST}" if "prompt" in rows[0] else ""
    report.heading(
        "The pairs that fit worst",
        f"What the policy contradicts after training on it is often a wrong label. {WORST} holds "
        f"{len(rows)} pairs for another look{how}",
    )
    report.samples(
        [_worst_sample(row) for row in rows[:N_PAIRS]],
        title="Worst first",
        before="chosen",
        after="rejected",
    )


def _worst_sample(row: Mapping[str, Any]) -> Sample:
    prompt, chosen, rejected = (
        _text(row.get(key, ""), key) for key in ("prompt", "chosen", "rejected")
    )
    note = (
        f"label {row['p']:.2f}, policy {row['model_p']:.2f}, margin {row['reward_margin']:.2f}; "
        f"against its label {row['n_wrong']} of {row['n_seen']} times; row {row['id']}"
    )
    return Sample(prompt, chosen, rejected, note=note)


def _text(value: Any, key: str) -> str:
    return value if isinstance(value, str) else text_of(messages_value(value, key))


def _add_samples(report: Report, out: Path) -> None:
    lines = _read(out / SAMPLES)
    if not lines:
        return
    first, last = lines[0]["step"], lines[-1]["step"]
    early = {line["prompt"]: line["text"] for line in lines if line["step"] == first}
    late = [line for line in lines if line["step"] == last]
    report.heading("Sampled answers")
    report.samples(
        [
            Sample(line["prompt"], early.get(line["prompt"], "–"), line["text"])
            for line in late[:N_SAMPLES]
        ],
        title="Answers to held-out prompts",
        before=f"step {first}",
        after=f"step {last}",
    )


def _plot(
    report: Report,
    title: str,
    series: Mapping[str, tuple[Lines, str]],
    *,
    reference: float | None = None,
    note: str = "",
    y_label: str = "",
    most: int = MOST_POINTS,
) -> None:
    """A plot against steps of those series that have values; none where none has."""
    drawn: Series = {}
    for name, (lines, key) in series.items():
        points = _points(lines, key, most)
        if points:
            drawn[name] = points
    if not drawn:
        return
    longest = max(len(lines) for lines, _ in series.values())
    if longest > most:
        note = f"{note} Each point is the mean of {-(-longest // most)} steps.".strip()
    label = y_label or title.lower()
    report.line_plot(
        drawn, title=title, x_label="step", y_label=label, reference=reference, note=note
    )


def _points(lines: Lines, key: str, most: int = MOST_POINTS) -> list[tuple[float, float | None]]:
    """(step, value) of the lines that have one; of a long run the mean of equal stretches."""
    size = max(1, -(-len(lines) // most))
    found: list[tuple[float, float | None]] = []
    for start in range(0, len(lines), size):
        stretch = lines[start : start + size]
        values = [line[key] for line in stretch if line.get(key) is not None]
        if values:
            found.append((stretch[-1]["step"], sum(values) / len(values)))
    return found


def _last_margins(path: Path) -> tuple[Any, Any]:
    """Margin and p of every training pair as it was seen last."""
    found: dict[str, tuple[float, float]] = {}
    for line in _read(path):
        if line["target"] == "pair":
            for row_id, margin, p in zip(line["id"], line["margin"], line["p"], strict=True):
                if margin is not None:
                    found[row_id] = (margin, p)
    table = np.array(list(found.values()), np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
