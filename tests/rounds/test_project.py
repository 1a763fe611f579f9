import json
from dataclasses import replace
from pathlib import Path

import pytest

from prefkit.core.errors import ConfigError, WorkspaceError
from prefkit.formats.load import load_prompts
from prefkit.rounds.demo import demo_project
from prefkit.rounds.project import Project, init_workspace, read_project, starter_prompts


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


def test_a_prompt_written_to_a_workspace_is_the_same_prompt(tmp_path: Path) -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    turns = [
        {"role": "user", "content": "What is 1 + 2?"},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": "3", "name": "f"},
    ]
    seen = [{"type": "text", "text": "What is this?"}, {"type": "image", "image": "a.png"}]
    rows = [
        {"prompt": "Plain.", "tags": {"split": "heldout"}},
        {"messages": turns, "tools": '[{"type": "function", "function": {"name": "f"}}]'},
        {"messages": [{"role": "user", "content": seen}]},
    ]
    given = tmp_path / "given.jsonl"
    given.write_text("".join(json.dumps(row) + "\n" for row in rows))
    workspace = init_workspace(tmp_path / "ws", Project(), starter_prompts(given))
    read = [replace(p, source="") for p in load_prompts(workspace.path / "prompts.jsonl")]
    assert read == [replace(p, source="") for p in load_prompts(given)]


def test_a_prompts_file_that_stands_is_neither_lost_nor_ignored(tmp_path: Path) -> None:
    own = tmp_path / "prompts.jsonl"
    own.write_text('{"question": "Mine?"}\n')
    with pytest.raises(WorkspaceError, match="with other prompts"):
        init_workspace(tmp_path, Project(), [{"prompt": "q"}])
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.jsonl"]
    init_workspace(tmp_path, Project(), starter_prompts(own))
    assert own.read_text() == '{"question": "Mine?"}\n'


@pytest.mark.parametrize(
    ("section", "said"),
    [({"method": "full"}, "leaves none"), ({"loss": "bradley_terry"}, "answers no prompts")],
)
def test_what_leaves_nothing_to_sample_from_is_refused_before_a_round(section, said):
    with pytest.raises(ValueError, match=said):
        Project(train=section)
