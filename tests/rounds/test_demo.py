import shutil
from pathlib import Path

import pytest

from prefkit.core.errors import ConfigError, WorkspaceError
from prefkit.rounds.demo import open_demo
from prefkit.rounds.project import Project, init_workspace, read_project


def test_an_unknown_engine_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'vlm'"):
        open_demo(tmp_path / "demo", seed=0, backend="vlm")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fresh", [False, True])
def test_a_workspace_that_no_demo_made_is_left_alone(tmp_path: Path, fresh: bool) -> None:
    workspace = init_workspace(tmp_path / "ws", Project(), [{"prompt": "q"}])
    before = sorted(path.name for path in workspace.path.iterdir())
    with pytest.raises(WorkspaceError, match="not made by prefkit demo"):
        open_demo(workspace.path, seed=0, fresh=fresh)
    assert sorted(path.name for path in workspace.path.iterdir()) == before


def test_another_seed_needs_another_folder_or_fresh(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    open_demo(folder, seed=0)
    assert read_project(open_demo(folder, seed=0)).seed == 0
    with pytest.raises(WorkspaceError, match="the demo of seed 0, not of seed 1"):
        open_demo(folder, seed=1)
    assert read_project(open_demo(folder, seed=1, fresh=True)).seed == 1


@pytest.mark.parametrize("nth", range(1, 4))
def test_a_kill_while_starting_over_leaves_a_folder_that_starts_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    folder = open_demo(tmp_path / "demo", seed=0).path
    for name in ("rounds", "base", "next"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "file").write_text("x")
    n_calls, remove = 0, shutil.rmtree

    def killed(path: Path) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == nth:
            raise KeyboardInterrupt
        remove(path)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            open_demo(folder, seed=0, fresh=True)
    again = open_demo(folder, seed=0)
    assert [path.name for path in again.path.rglob("file")] == []
