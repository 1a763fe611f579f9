"""The report of a run shows what the run wrote, in one file that asks for nothing."""

from __future__ import annotations

import json
import math
import re

import pytest
from report_pages import EVIL, by_class, plots
from run_facts import course, monitored, pair_facts, step_facts, train_rows

from prefkit.training.facts import EvaluationFacts, SampledAnswers
from prefkit.training.run_report import MOST_POINTS, write_run_report
from prefkit.training.worst import write_worst

TOTAL = 20


@pytest.fixture
def out(tmp_path):
    """A finished run with evaluations, sampled answers, worst pairs and an alarm."""
    with monitored(tmp_path, range(1, TOTAL), TOTAL) as monitor:
        for step in (10, 19):
            rows = course(step, TOTAL, seed=3).rows
            samples = SampledAnswers(
                ["why?"], [f"because {step} {EVIL}"],
                policy=rows.policy[0], reference=rows.reference[0], answer=rows.n_tokens[0] * 0,
            )  # fmt: skip
            monitor.evaluation(EvaluationFacts(step, rows, 0.5, 0.1, samples))
        monitor.step(step_facts(TOTAL, TOTAL, pair_facts([1.0], [1.0], chosen=-90.0)))
        assert [alarm.kind for alarm in monitor.alarms] == ["chosen_falls"]
    write_worst(tmp_path, {**train_rows()})
    return tmp_path


def titles(html):
    return re.findall(r"<h3[^>]*>([^<]+)</h3>", html)


def test_every_part_of_a_run_is_on_the_page(out):
    html = write_run_report(out, {"rows": 64}, first_loss=math.log(2)).read_text()
    assert titles(html)[:4] == ["Loss", "Reward accuracy", "Reward margin", "Rewards of both sides"]
    for title in (
        "Log-probabilities of both sides",
        "What the policy implies against what the labels say",
        "Does the reward follow length?",
        "Mean log-ratio",
        "KL from sampled answers",
        "Learning rate",
        "Worst first",
        "Answers to held-out prompts",
    ):
        assert title in titles(html)
    assert "chosen answers lose likelihood" in html
    assert "loss dpop" in html
    assert "prefkit annotate worst.jsonl" in html
    assert "because 10" in html
    assert "because 19" in html


def test_the_loss_plot_has_a_dot_a_step_and_ln_2_as_reference(out):
    html = write_run_report(out, {}, first_loss=math.log(2)).read_text()
    loss = plots(html)[0]
    assert len(by_class(loss, "dot")) == TOTAL + 2  # and two evaluations
    assert len(by_class(loss, "reference")) == 1
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert f'<td class="n">{lines[4]["loss"]:.4g}</td>' in html


def test_hostile_answers_add_no_tag(out):
    html = write_run_report(out, {"x": EVIL}, title=EVIL).read_text()
    assert html.count("<script") == 1
    assert "\x1b" not in html


def test_a_calibrated_policy_lies_on_the_diagonal(tmp_path):
    p = [0.05, 0.35, 0.65, 0.95]
    with monitored(tmp_path, range(1, 1), 1, first_loss=None) as monitor:
        margin = [math.log(q / (1 - q)) for q in p]
        monitor.step(step_facts(1, 1, pair_facts(margin, p)))
    html = write_run_report(tmp_path, {}).read_text()
    (plot,) = (p for p in plots(html) if "σ(reward margin)" in p.get("aria-label", ""))
    dots = [dot for dot in by_class(plot, "dot") if "fill-0" in dot.get("class", "")]
    assert len(dots) == 4
    (start, end) = (dot for dot in by_class(plot, "dot") if "fill-1" in dot.get("class", ""))
    slope = (float(end.get("cy")) - float(start.get("cy"))) / (
        float(end.get("cx")) - float(start.get("cx"))
    )
    for dot in dots:
        rise = float(dot.get("cy")) - float(start.get("cy"))
        assert rise == pytest.approx(slope * (float(dot.get("cx")) - float(start.get("cx"))), abs=1)


def test_a_long_run_is_drawn_in_means_of_equal_stretches(tmp_path):
    total = 3 * MOST_POINTS
    with monitored(tmp_path, range(1, total + 1), total):
        pass
    html = write_run_report(tmp_path, {}).read_text()
    assert "Each point is the mean of 3 steps." in html
    assert len(html) < 1_500_000


def test_a_run_without_evaluations_or_alarms_says_so(tmp_path):
    with monitored(tmp_path, range(1, 4), 3):
        pass
    html = write_run_report(tmp_path, {"steps": 3}).read_text()
    assert "None sounded." in html
    assert "Answers to held-out prompts" not in titles(html)
    assert "training pairs, as each was seen last" in html
