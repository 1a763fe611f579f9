from pathlib import Path

import pytest

from prefkit.core.errors import ConfigError
from prefkit.rounds.demo import demo_project
from prefkit.rounds.project import Project, init_workspace, read_project


def test_a_written_project_reads_back_as_it_was(tmp_path: Path) -> None:
    for number, project in enumerate((Project(), demo_project(3, "scripted"))):
        workspace = init_workspace(tmp_path / str(number), project, [{"prompt": "q"}])
        assert read_project(workspace) == project


def test_every_key_has_a_comment_above_it(tmp_path: Path) -> None:
    workspace = init_workspace(tmp_path / "ws", Project(), [{"prompt": "q"}])
    lines = workspace.config_path.read_text().splitlines()
    keys = [n for n, line in enumerate(lines) if ":" in line and not line.lstrip().startswith("#")]
    in_block = [
        n for n in keys if lines[n].startswith("    ") and "guidelines: |" in "\n".join(lines[:n])
    ]
    assert all(lines[n - 1].lstrip().startswith("#") for n in keys if n not in in_block)


def test_the_engine_is_said_once_and_reaches_every_stage() -> None:
    project = Project.model_validate(
        {"engine": {"backend": "scripted"}, "judge": {"engine": {"backend": "vllm"}}}
    )
    assert project.generate.engine.backend == project.evaluate.engine.backend == "scripted"
    assert project.judge.engine.backend == "vllm"


def test_a_stage_with_its_own_engine_keeps_it_in_the_file(tmp_path: Path) -> None:
    project = Project.model_validate({"judge": {"engine": {"backend": "scripted"}}})
    workspace = init_workspace(tmp_path / "ws", project, [{"prompt": "q"}])
    assert read_project(workspace).judge.engine.backend == "scripted"


def test_an_unknown_key_of_the_engine_is_named_once(tmp_path: Path) -> None:
    workspace = init_workspace(tmp_path / "ws", Project(), [{"prompt": "q"}])
    with pytest.raises(ConfigError) as caught:
        read_project(workspace, ["engine.backed=vllm"])
    assert str(caught.value).count("\n") == 0
    assert "did you mean 'backend'" in str(caught.value)
