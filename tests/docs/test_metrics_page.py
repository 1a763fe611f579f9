"""docs/metrics.md names every metric, alarm, file and tracker, and nothing that is not there."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
from run_facts import course, pair_facts

from prefkit.training.alarms import AlarmKind, AlarmSettings
from prefkit.training.facts import EvaluationFacts, SampledAnswers
from prefkit.training.metrics import evaluation_line, step_line
from prefkit.training.monitor import FILES
from prefkit.training.trackers import TRACKERS
from prefkit.training.worst import N_WORST

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


def section(title):
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def keys_of(title):
    """What the first column of a section's table names."""
    rows = [line for line in section(title).splitlines() if line.startswith("| `")]
    return {key for row in rows for key in re.findall(r"`([a-z0-9_]+)`", row.split(" | ")[0])}


def test_every_metric_is_on_the_page_and_no_other():
    facts = course(3, 9)
    samples = SampledAnswers(["q"], ["a"], np.zeros(2), np.zeros(2), np.zeros(2, int))
    lines = [evaluation_line(EvaluationFacts(3, facts.rows, 0.5, 1.0, samples))]
    for target in ("pair", "ranking", "unpaired", "demonstration"):
        lines.append(step_line(replace(facts, rows=replace(facts.rows, target=target))))
    with np.errstate(invalid="ignore"):
        lines.append(step_line(replace(facts, rows=pair_facts([float("nan")], [1.0]))))
    written = {key for line in lines for key in line} - {"step"}
    assert keys_of("Metrics") == written


def test_every_alarm_is_on_the_page_with_its_threshold():
    assert keys_of("Alarms") == set(get_args(AlarmKind))
    settings = AlarmSettings()
    for said in (
        f"last {settings.window} steps",
        f"{settings.chosen_falls:g} nats less",
        f"{settings.chosen_falls_per_token:g} nats a token",
        f"by {settings.length:g} or more",
    ):
        assert said in section("Alarms")


def test_files_and_trackers_are_those_that_are_written():
    assert set(re.findall(r"^\| (\w+\.jsonl) ", PAGE, re.MULTILINE)) == set(FILES)
    assert set(re.findall(r"^\| (\w+)", section("Trackers"), re.MULTILINE)) == {*TRACKERS, "name"}
    assert f"the {N_WORST} pairs" in PAGE
