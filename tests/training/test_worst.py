"""The pairs that fit worst go back to annotation as they went in."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_facts import monitored, pair_facts, step_facts, train_rows
from scipy.special import expit, rel_entr

from prefkit.core.errors import DataError
from prefkit.core.records import Message, Part, Prompt, TrainRow
from prefkit.formats.comparisons import read_comparisons
from prefkit.formats.load import read_examples
from prefkit.formats.train import read_train_data
from prefkit.formats.values import messages_value
from prefkit.training import TrainSettings, train
from prefkit.training.run_report import write_run_report
from prefkit.training.worst import contradiction, turns, worst_fits, write_worst


@given(st.floats(-30, 30), st.floats(0, 1), st.floats(0, 5))
def test_contradiction_is_weight_times_the_kl_from_label_to_policy(margin, p, weight):
    q = float(expit(margin))
    exact = rel_entr(p, q) + rel_entr(1 - p, float(expit(-margin)))
    assert contradiction(margin, p, weight) == pytest.approx(weight * exact, abs=1e-9, rel=1e-9)


@given(st.floats(0.01, 0.99))
def test_a_policy_that_says_what_the_label_says_contradicts_nothing(p):
    """A soft label has a loss of its own; only what exceeds it counts."""
    assert contradiction(math.log(p / (1 - p)), p) == pytest.approx(0, abs=1e-12)


def seen(out, *margins, p=(0.9, 0.9, 0.9), weight=(1.0, 1.0, 1.0)):
    """rows.jsonl of a step for each list of margins of row0, row1, row2."""
    ids = ["row0", "row1", "row2"]
    with monitored(out, range(1, 1), len(margins)) as monitor:
        for step, values in enumerate(margins, 1):
            rows = pair_facts(values, p, ids=ids, weight=weight)
            monitor.step(step_facts(step, len(margins), rows))
    return out


def test_the_worst_come_first_as_they_were_seen_last(tmp_path):
    seen(tmp_path, [-9.0, 1.0, -1.0], [2.0, -4.0, -3.0])
    one, two, three = worst_fits(tmp_path / "rows.jsonl")
    assert [fit.id for fit in (one, two, three)] == ["row1", "row2", "row0"]
    assert (one.n_seen, one.n_wrong) == (2, 1)
    assert (two.n_seen, two.n_wrong) == (2, 2)
    assert one.margin == -4.0
    assert one.model_p == pytest.approx(float(expit(-4)))
    assert [fit.id for fit in worst_fits(tmp_path / "rows.jsonl", 1)] == ["row1"]


def test_weight_raises_a_pair_and_an_even_label_is_never_contradicted_by_its_sign(tmp_path):
    seen(tmp_path, [-2.0, -2.5, 0.1], p=(1.0, 1.0, 0.5), weight=(3.0, 1.0, 1.0))
    found = worst_fits(tmp_path / "rows.jsonl")
    assert [fit.id for fit in found] == ["row0", "row1", "row2"]
    assert [fit.n_wrong for fit in found] == [1, 1, 0]


def test_annotate_reads_the_file_blind_and_train_reads_it_as_it_was(tmp_path):
    rows = train_rows(3)
    path = write_worst(seen(tmp_path, [1.0, -4.0, -3.0]), rows)
    assert path is not None
    comparisons, counts = read_comparisons(path)
    assert counts["n_comparisons"] == counts["n_read"] == 3
    for comparison in comparisons:
        (row,) = (row for row in rows.values() if row.prompt.id == comparison.prompt.id)
        assert {comparison.a.messages, comparison.b.messages} == set(row.completions)
    loaded = read_examples(path)
    (example, *_) = loaded.table.to_pylist()
    assert example["prompt"]["id"] == rows["row1"].prompt.id
    assert [turn["parts"][0]["text"] for turn in example["chosen"]] == ["yes 1"]
    assert (example["p"], example["weight"]) == (0.9, 2.0)
    # The policy's margin is no label.
    assert example["margin"] is None


def test_a_file_beside_a_run_opens_as_a_workspace(tmp_path):
    from typer.testing import CliRunner

    from prefkit.cli.annotate import app

    path = write_worst(seen(tmp_path, [1.0, -4.0, -3.0]), train_rows(3))
    done = CliRunner().invoke(app, [str(path), "--import-only", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["comparisons"] == 3


def test_tools_names_and_images_survive_the_file(tmp_path):
    image = Message("user", (Part("text", "what is"), Part("image", path="a.png")))
    call = Message("assistant", (Part("text", ""),), tool_calls='[{"name": "f"}]')
    told = Message("tool", (Part("text", "4"),), name="f")
    prompt = Prompt.make([image, call, told], tools='[{"type": "function"}]')
    answers = ((Message.of("assistant", "x"),), (Message.of("assistant", "y"),))
    row = TrainRow("row0", prompt, answers, "pair")
    assert messages_value(json.loads(json.dumps(turns(prompt.messages))), "m") == prompt.messages
    rows = {**train_rows(3), "row0": row}
    path = write_worst(seen(tmp_path, [-9.0, 2.0, 2.0]), rows, n=1)
    assert path is not None
    ((comparison,), _) = read_comparisons(path)
    assert comparison.prompt.messages == prompt.messages
    assert comparison.prompt.tools == prompt.tools


def raw_rows(n):
    """Pairs of raw text by id, with what their file said of them."""
    answers = [(f"q {i}\nyes {i}", f"q {i}\nno {i}") for i in range(n)]
    return {
        f"row{i}": TrainRow(
            f"row{i}",
            Prompt.make((), tags={"kind": "raw"}),
            tuple((Message.of("assistant", text),) for text in texts),
            "pair",
            p=0.6,
        )
        for i, texts in enumerate(answers)
    }


def test_pairs_of_raw_text_are_read_again_as_what_they_were(tmp_path):
    """Without a prompt: an empty one would be of no layout. The report shows them, and sends
    nobody to annotate what asks nothing."""
    rows = raw_rows(3)
    path = write_worst(seen(tmp_path, [1.0, -4.0, -3.0], p=(0.6, 0.6, 0.6)), rows)
    assert path is not None
    found = read_train_data(str(path))
    assert found.layout == "raw_pair"
    assert [row.completions for row in found.rows] == [
        rows[name].completions for name in ("row1", "row2", "row0")
    ]
    assert {(row.p, row.weight) for row in found.rows} == {(0.6, 1.0)}
    assert found.rows[0].prompt.tags == {"kind": "raw"}
    page = write_run_report(tmp_path, {}).read_text()
    assert "yes 1" in page
    assert "prefkit annotate" not in page


def test_what_a_row_had_beside_its_label_is_written_too(tmp_path):
    """Read again it has the same tokens and the same votes."""
    votes, evidence = '[{"choice": "a"}, {"choice": "b"}]', '{"chosen_slot": "a"}'
    row = replace(
        train_rows(1)["row0"],
        arguments={"enable_thinking": False},
        margin=1.5,
        votes=votes,
        evidence=evidence,
    )
    path = write_worst(seen(tmp_path, [-9.0, 2.0, 2.0]), {**train_rows(3), "row0": row}, n=1)
    assert path is not None
    (again,) = read_train_data(str(path)).rows
    assert (again.arguments, again.margin) == ({"enable_thinking": False}, 1.5)
    assert (again.votes, again.evidence, again.p) == (votes, evidence, 0.9)


def test_under_hard_labels_the_file_says_the_label_as_it_was(tiny_model_dir, pairs, tmp_path):
    """Also of a pair whose sides training turned."""
    rows = [
        replace(TrainRow.of(pair), p=0.4, margin=-1.0) if i == 0 else TrainRow.of(pair)
        for i, pair in enumerate(pairs[:4])
    ]
    settings = TrainSettings(
        labels="hard", max_steps=1, device="cpu", dtype="float32", trackers=[],
        reference_store="none",
    )  # fmt: skip
    train(str(tiny_model_dir), rows, settings, out=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "worst.jsonl").read_text().splitlines()]
    found = {line["id"]: line for line in lines}
    assert {row.id: row.p for row in rows[1:]} == {row.id: found[row.id]["p"] for row in rows[1:]}
    turned = found[rows[0].id]
    assert (turned["p"], turned["margin"]) == (0.6, 1.0)
    assert turned["chosen"][0]["content"] == rows[0].completions[1][0].text


def test_rows_that_are_no_pairs_leave_no_file(tmp_path):
    rows = replace(pair_facts([1.0], [1.0]), target="unpaired")
    (tmp_path / "worst.jsonl").write_text("of an earlier run")
    with monitored(tmp_path, range(1, 1), 1) as monitor:
        monitor.step(step_facts(1, 1, rows))
    assert write_worst(tmp_path, {}) is None
    assert not (tmp_path / "worst.jsonl").exists()


def test_a_folder_without_rows_is_named(tmp_path):
    with pytest.raises(DataError, match="rows"):
        write_worst(tmp_path, {})


def test_a_row_without_a_finite_margin_is_left_out(tmp_path):
    with np.errstate(invalid="ignore"):
        seen(tmp_path, [float("nan"), -1.0, np.inf])
    assert [fit.id for fit in worst_fits(tmp_path / "rows.jsonl")] == ["row1"]
