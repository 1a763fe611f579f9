"""The monitor's files after a kill are those of a run that was never killed."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import pytest
from run_facts import course, monitored, pair_facts, scalars, step_facts

from prefkit.core.errors import EnvironmentFault
from prefkit.training.alarms import AlarmSettings
from prefkit.training.facts import EvaluationFacts, SampledAnswers
from prefkit.training.monitor import EVALUATIONS, FILES, METRICS, ROWS, SAMPLES, Monitor
from prefkit.training.settings import TrainSettings

TOTAL = 24


def falling(step):
    """A step whose chosen answers are step/2 nats below the reference."""
    return step_facts(step, TOTAL, pair_facts([0.5] * 8, [1.0] * 8, chosen=-step / 2))


def evaluated(step):
    rows = course(step, TOTAL, seed=9).rows
    samples = SampledAnswers([f"q{step}"], [f"a{step}\u2028"])
    return EvaluationFacts(step, rows, float(rows.values.mean()), 0.5, samples)


def run(out, first, last, **given):
    monitor = monitored(out, range(first, first), TOTAL, **given)
    for step in range(first, last + 1):
        monitor.step(course(step, TOTAL) if step % 3 else falling(step))
        if step % 5 == 0:
            monitor.evaluation(evaluated(step))
    return monitor


@pytest.mark.parametrize("checkpoint", [0, 1, 10, 15])
def test_a_resumed_run_leaves_the_files_of_an_unbroken_one(tmp_path, checkpoint):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    unbroken = run(whole, 1, TOTAL)
    unbroken.close()
    killed = run(broken, 1, 17)
    killed.sync()
    # kill -9: nothing is closed, and the last line is there in part.
    for name in FILES:
        path = broken / name
        path.write_text(path.read_text() + '{"step": 18, "lo')
    resumed = run(broken, checkpoint + 1, TOTAL)
    resumed.close()
    for name in FILES:
        assert (broken / name).read_text() == (whole / name).read_text(), name
    assert resumed.lines == unbroken.lines
    assert resumed.evaluations == unbroken.evaluations
    assert [alarm.kind for alarm in unbroken.alarms] == ["chosen_falls"]
    assert resumed.alarms == unbroken.alarms


def test_an_alarm_is_told_once_and_not_again_after_a_kill(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "prefkit.training"):
        run(tmp_path, 1, 18).close()
        (told,) = caplog.messages
        assert "chosen answers lose likelihood" in told
        caplog.clear()
        run(tmp_path, 19, TOTAL).close()
        assert caplog.messages == []


def test_an_alarm_reaches_stderr_where_nobody_set_up_logging(tmp_path):
    code = (
        "import sys; from pathlib import Path; from run_facts import monitored, pair_facts, "
        "step_facts\nm = monitored(Path(sys.argv[1]), range(1, 1), 5)\n"
        "m.step(step_facts(1, 5, pair_facts([9.0], [1.0])))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    assert "alarm at step 1: the first loss is" in done.stderr
    assert done.stdout == ""


def test_thresholds_of_alarms_are_settings(tmp_path):
    wide = AlarmSettings(chosen_falls=1000.0)
    with run(tmp_path, 1, TOTAL, alarms=wide) as monitor:
        assert monitor.alarms == []
    assert TrainSettings(alarms={"chosen_falls": 1000.0}).alarms == wide


def test_a_step_is_a_line_and_its_alarms_are_in_it(tmp_path):
    with monitored(tmp_path, range(1, 1), 4) as monitor:
        monitor.step(step_facts(1, 4, pair_facts([1.0], [1.0])))
        monitor.step(step_facts(2, 4, pair_facts([1.0], [1.0])))
    one, two = (json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines())
    assert [alarm["kind"] for alarm in one["alarms"]] == ["first_loss"]
    assert "alarms" not in two
    assert two["loss"] == pytest.approx(math.log1p(math.exp(-1)))


def test_rows_keep_every_row_as_each_step_saw_it(tmp_path):
    with monitored(tmp_path, range(1, 4), 3) as monitor:
        pass
    lines = [json.loads(line) for line in (tmp_path / ROWS).read_text().splitlines()]
    for step, line in enumerate(lines, 1):
        rows = course(step, 3).rows
        assert line["id"] == rows.ids
        assert line["loss"] == pytest.approx(rows.values.tolist(), rel=1e-5)
        margins = rows.rewards()[:, 0] - rows.rewards()[:, 1]
        assert line["margin"] == pytest.approx(margins.tolist(), rel=1e-5, abs=1e-9)
    assert len(monitor.lines) == len(lines) == 3


def test_samples_that_break_lines_for_some_readers_stay_one_line_each(tmp_path):
    with monitored(tmp_path, range(1, 6), 6) as monitor:
        monitor.evaluation(evaluated(5))
    (line,) = (tmp_path / SAMPLES).read_text().rstrip("\n").split("\n")
    assert json.loads(line)["text"] == "a5\u2028"
    resumed = monitored(tmp_path, range(6, 7), 6)
    assert [e["step"] for e in resumed.evaluations] == [5]
    resumed.close()


def test_trackers_get_the_numbers_of_steps_and_evaluations(tmp_path):
    with run(tmp_path, 1, 10, trackers=("tensorboard",)) as monitor:
        pass
    run(tmp_path, 6, 12, trackers=("tensorboard",)).close()
    found = scalars(tmp_path / "tensorboard")
    assert [step for step, _ in found["train/loss"]] == list(range(1, 13))
    assert [step for step, _ in found["eval/loss"]] == [5, 10]
    assert found["train/loss"][2][1] == pytest.approx(monitor.lines[2]["loss"], rel=1e-6)
    assert "train/step" not in found


def test_progress_shows_the_speed(tmp_path):
    seen = []
    run(tmp_path, 1, 2, progress=lambda *said: seen.append(said)).close()
    assert seen == [("training", 1, TOTAL, "2,400 tokens/s"),
                    ("training", 2, TOTAL, "2,400 tokens/s")]  # fmt: skip


def test_a_new_run_starts_with_empty_files(tmp_path):
    run(tmp_path, 1, 5).close()
    monitor = Monitor(tmp_path, total=3, run="6" * 32, trackers=())
    assert (monitor.lines, monitor.evaluations, monitor.alarms) == ([], [], [])
    assert all((tmp_path / name).read_text() == "" for name in (METRICS, EVALUATIONS))
    monitor.close()
    monitor.close()


def test_a_full_disk_is_named_with_its_mend(tmp_path):
    """/dev/full takes no byte: every write to it fails as on a full disk, on closing too."""
    monitor = monitored(tmp_path, range(1, 2), 5)
    monitor._files[ROWS].close()
    monitor._files[ROWS] = open("/dev/full", "w")  # noqa: SIM115 the monitor closes it
    with pytest.raises(EnvironmentFault, match="the disk is full") as caught, monitor:
        monitor.step(course(2, 5))
    assert caught.value.hint is not None
