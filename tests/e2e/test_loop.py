"""`prefkit loop run` as a user runs it: real processes, real SIGKILL, files afterwards."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from loops import essence, make_workspace, manifests, prefkit, run_json

from prefkit.core.records import Vote
from prefkit.store import VoteStore
from prefkit.workspace import Workspace

pytestmark = pytest.mark.slow

KILLS = {
    "generation": "file:ws/rounds/001/journal/**/*.parquet",
    "before the votes are stored": "call:prefkit.store:VoteStore.add_votes:before",
    "after the votes are stored": "call:prefkit.store:VoteStore.add_votes:after",
    "training": "call:torch.optim:AdamW.step:after:3",
    "evaluation answers": "file:ws/rounds/002/evaluation_journal/**/*.parquet",
    "evaluation measures": "call:prefkit.rounds.comparing:reward_accuracy:before",
    "a file about to appear": "call:os:replace:before:9",
    "a manifest about to appear": "call:prefkit.workspace:write_json:before:5",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Workspace:
    """A workspace whose loop ran without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    workspace = make_workspace(folder / "ws", tiny_model_dir)
    assert run_json("loop", "run", "ws", cwd=folder)["state"] == "done"
    return workspace


def test_a_finished_loop_says_what_it_made(whole: Workspace) -> None:
    result = run_json("loop", "run", "ws", cwd=whole.path.parent)
    assert [r["round"] for r in result["rounds"]] == [1, 2]
    for summary in result["rounds"]:
        assert summary["n_kept"] + summary["n_dropped"] == summary["n_preferences"]
        assert sum(summary["dropped"].values()) == summary["n_dropped"]
        assert 0 <= summary["ci95"][0] <= summary["win_rate"] <= summary["ci95"][1] <= 1
        assert summary["backend"] == "scripted"
    assert Path(result["report"]).is_file()


def test_a_second_run_redoes_nothing(whole: Workspace) -> None:
    before = manifests(whole)
    run_json("loop", "run", "ws", cwd=whole.path.parent)
    assert manifests(whole) == before


@pytest.mark.parametrize("point", KILLS.values(), ids=KILLS.keys())
def test_a_killed_loop_goes_on_where_it_stood(
    point: str, tmp_path: Path, tiny_model_dir: Path, whole: Workspace
) -> None:
    workspace = make_workspace(tmp_path / "ws", tiny_model_dir)
    killed = prefkit("loop", "run", "ws", cwd=tmp_path, kill_at=point)
    assert killed.returncode == -9, killed.stderr
    finished = manifests(workspace)
    assert run_json("loop", "run", "ws", cwd=tmp_path)["state"] == "done"
    after = manifests(workspace)
    assert {name: after[name] for name in finished} == finished
    assert essence(workspace) == essence(whole)
    assert not list(workspace.path.rglob("*.tmp-*"))


def test_a_loop_waits_for_people_and_goes_on_when_they_have_voted(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    workspace = make_workspace(tmp_path / "ws", tiny_model_dir, label="people")
    waiting = run_json("loop", "run", "ws", cwd=tmp_path)
    assert waiting["state"] == "waiting"
    assert waiting["waiting"]["done"] == 0
    assert run_json("status", "ws", cwd=tmp_path)["next"].startswith("prefkit annotate ws")
    vote_on_everything(workspace)
    again = run_json("loop", "run", "ws", cwd=tmp_path)
    assert (again["state"], again["waiting"]["round"]) == ("waiting", 2)
    vote_on_everything(workspace)
    done = run_json("loop", "run", "ws", cwd=tmp_path)
    assert done["state"] == "done"
    assert all(summary["win_rate"] is None for summary in done["rounds"])


def vote_on_everything(workspace: Workspace) -> None:
    """One person's vote, for the shorter answer, on every comparison that has none."""
    store = VoteStore.open(workspace.store_path)
    voted = {vote.comparison_id for vote in store.votes()}
    for comparison in store.comparisons():
        if comparison.id in voted:
            continue
        shorter = "a" if len(comparison.a.text) <= len(comparison.b.text) else "b"
        vote = Vote(
            id=str(uuid4()),
            task_id=comparison.id,
            comparison_id=comparison.id,
            rater="ada",
            rater_kind="human",
            choice=shorter,  # type: ignore[arg-type]
            at=datetime.now(UTC),
            strength=2,
        )
        store.add_votes([vote])
    store.close()


def test_a_second_process_is_refused_while_one_works(whole: Workspace) -> None:
    with whole.locked():
        refused = prefkit("loop", "run", "ws", cwd=whole.path.parent)
    assert refused.returncode == 1
    assert "another prefkit process" in refused.stderr
