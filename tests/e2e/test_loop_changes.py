"""What a loop does when its configuration or its votes change between two runs."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from loops import make_workspace

from prefkit.core.errors import DataError
from prefkit.core.records import Completion, Vote
from prefkit.formats.tables import read_records, write_records
from prefkit.rounds.loop import run_loop
from prefkit.rounds.project import read_project
from prefkit.rounds.report import write_report
from prefkit.store import VoteStore
from prefkit.workspace import Workspace

pytestmark = pytest.mark.slow
ONE_ROUND = ["loop.rounds=1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Workspace:
    """One round, labelled by a rule, run to its end."""
    workspace = make_workspace(tmp_path_factory.mktemp("loop") / "ws", tiny_model_dir)
    run_loop(workspace, overrides=ONE_ROUND)
    return workspace


@pytest.fixture
def again(finished: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the finished round to run again."""
    return Workspace(shutil.copytree(finished.path, tmp_path / "ws"))


def test_other_samples_are_voted_on_anew(again: Workspace) -> None:
    result = run_loop(again, overrides=[*ONE_ROUND, "generate.max_tokens=23"])
    (summary,) = result.rounds
    assert summary["n_votes"] == summary["n_comparisons"] > 0


def test_a_rater_with_other_settings_votes_anew_and_counts_once(again: Workspace) -> None:
    before = read_records(again.round_path(1) / "votes.parquet", Vote)
    result = run_loop(again, overrides=[*ONE_ROUND, "judge.noise=0.5"])
    after = read_records(again.round_path(1) / "votes.parquet", Vote)
    assert {vote.id for vote in before}.isdisjoint(vote.id for vote in after)
    assert result.rounds[0]["n_votes"] == result.rounds[0]["n_comparisons"]


def test_a_round_that_waits_again_is_not_reported_as_finished(again: Workspace) -> None:
    overrides = [*ONE_ROUND, "generate.max_tokens=23", "loop.label=people"]
    result = run_loop(again, overrides=overrides)
    assert (result.state, result.rounds, result.report) == ("waiting", [], None)


def test_a_rater_without_a_single_vote_is_named(tmp_path: Path, tiny_model_dir: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", tiny_model_dir)
    prompts = workspace.path / "prompts.jsonl"
    rows = [json.loads(line) for line in prompts.read_text().splitlines()]
    prompts.write_text("".join(json.dumps({"prompt": r["prompt"]}) + "\n" for r in rows))
    with pytest.raises(DataError, match="'format' voted on no comparison: the rule has no opinion"):
        run_loop(workspace)
    assert not (workspace.round_path(1) / "vote.manifest.json").exists()


def test_held_out_ties_rank_nothing_and_stop_nothing(tmp_path: Path, tiny_model_dir: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", tiny_model_dir, label="people")
    overrides = [*ONE_ROUND, "loop.heldout_share=0.5", "curate.recipe=none"]
    assert run_loop(workspace, overrides=overrides).state == "waiting"
    with VoteStore.open(workspace.store_path) as store:
        for comparison in store.comparisons():
            tie = Vote(
                id=str(uuid4()),
                task_id=comparison.id,
                comparison_id=comparison.id,
                rater="ada",
                rater_kind="human",
                choice="tie",
                at=datetime.now(UTC),
            )
            store.add_votes([tie])
    (summary,) = run_loop(workspace, overrides=overrides).rounds
    assert (summary["heldout_accuracy"], summary["n_heldout_pairs"]) == (None, 0)


def test_a_report_leaves_out_prompts_without_an_answer(again: Workspace) -> None:
    path = again.round_path(1) / "answers.parquet"
    answers = read_records(path, Completion)
    result = run_loop(again, overrides=ONE_ROUND)
    write_records(path, answers[1:], Completion)
    project = read_project(again, ONE_ROUND)
    report = write_report(again, result.rounds, project, model_path=Path("model"))
    assert report.read_text().count("<article>") == len(answers) - 1
