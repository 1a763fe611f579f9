"""Configuration faults that only a registry knows: all of them, before anything is sampled."""

from pathlib import Path

import pytest
from loops import make_workspace

from prefkit.core.errors import ConfigError
from prefkit.rounds.loop import open_job, run_loop


def test_unknown_names_are_all_told_before_anything_is_sampled(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", tmp_path / "no-model")
    overrides = [
        "judge.rater=fromat",
        "generate.pairing=randm",
        "curate.overrides=[nosuch.max=1]",
        "evaluate.rule=fromat",
    ]
    with pytest.raises(ConfigError) as raised:
        run_loop(workspace, overrides=overrides)
    lines = raised.value.message.splitlines()
    assert len(lines) == len(overrides)
    for line, said in zip(
        lines,
        ("judge.rater: unknown rater", "unknown pairing", "unknown filter", "unknown rule"),
        strict=True,
    ):
        assert line.startswith(str(workspace.config_path))
        assert said in line
    assert not list((workspace.path / "rounds").iterdir())


def test_an_unknown_recipe_is_told_before_anything_is_sampled(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", tmp_path / "no-model")
    with pytest.raises(ConfigError, match=r"curate: unknown recipe 'quik'.*shipped"):
        run_loop(workspace, overrides=["curate.recipe=quik"])


def test_a_recipe_of_the_workspace_is_found_from_any_folder(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(tmp_path / "ws", tiny_model_dir)
    (workspace.path / "own.yaml").write_text("name: own\nstages: {empty_answer: {min: 1}}\n")
    monkeypatch.chdir(tmp_path)
    job = open_job(workspace, overrides=["curate.recipe=own.yaml"])
    job.store.close()
    found = job.project.curate.recipe_in(workspace.path)
    assert Path(found) == workspace.path / "own.yaml"
