"""The stage rule: finished work stands, half-finished work is done again, nobody works twice."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from prefkit.core.errors import WorkspaceError
from prefkit.workspace import Workspace, read_manifest, run_stage


class Bench:
    """A stage that writes one file and remembers how often it ran."""

    def __init__(self, folder):
        self.folder, self.runs = folder, 0

    def run(self, *, text="out", inputs=None, config=None, fails=False):
        def work():
            self.runs += 1
            (self.folder / "out.txt").write_text(text)
            if fails:
                raise KeyboardInterrupt
            return {"n": 1}

        return run_stage(
            self.folder,
            "make",
            inputs=inputs or {"in": "digest"},
            config=config or {"x": 1},
            outputs=("out.txt",),
            work=work,
        )


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "stage")


def test_a_finished_stage_is_not_run_again(bench):
    first, ran = bench.run()
    second, ran_again = bench.run(text="never written")
    assert (ran, ran_again, bench.runs) == (True, False, 1)
    assert first == second == read_manifest(bench.folder, "make")
    assert first.facts == {"n": 1}


@pytest.mark.parametrize("change", [{"inputs": {"in": "other"}}, {"config": {"x": 2}}])
def test_other_inputs_or_settings_run_it_again(bench, change):
    bench.run()
    _, ran = bench.run(**change)
    assert ran


def test_an_output_that_is_gone_or_changed_is_made_again(bench):
    bench.run()
    (bench.folder / "out.txt").write_text("edited")
    assert bench.run()[1]
    (bench.folder / "out.txt").unlink()
    assert bench.run()[1]
    assert not bench.run()[1]


def test_an_interrupted_stage_has_no_manifest_and_is_done_again(bench):
    bench.run()
    with pytest.raises(KeyboardInterrupt):
        bench.run(config={"x": 2}, fails=True)
    assert read_manifest(bench.folder, "make") is None
    assert bench.run()[1]


def test_a_stage_that_forgets_an_output_is_our_bug(tmp_path):
    with pytest.raises(RuntimeError, match=r"did not write other\.txt"):
        run_stage(tmp_path, "make", inputs={}, config={}, outputs=("other.txt",), work=dict)


def test_a_manifest_of_another_version_names_the_mend(tmp_path):
    (tmp_path / "make.manifest.json").write_text('{"stage": "make"}')
    with pytest.raises(WorkspaceError, match=r"make\.manifest\.json") as caught:
        read_manifest(tmp_path, "make")
    assert "delete the file" in caught.value.hint


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "prefkit.yaml").write_text("{}\n")
    return Workspace.open(tmp_path)


def test_a_folder_without_configuration_names_init(tmp_path):
    with pytest.raises(WorkspaceError, match="not a prefkit workspace") as caught:
        Workspace.open(tmp_path)
    assert "prefkit init" in caught.value.hint


def test_rounds_are_numbered_folders_in_order(workspace):
    for name in ("010", "002", "notes"):
        (workspace.rounds_path / name).mkdir(parents=True)
    assert workspace.rounds() == [2, 10]
    assert workspace.round_path(2).name == "002"


LOCKED = """
import sys
from prefkit.workspace import Workspace
with Workspace.open(sys.argv[1]).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_is_refused_and_a_kill_frees_the_lock(workspace):
    child = subprocess.Popen(
        [sys.executable, "-c", LOCKED, str(workspace.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "locked\n"
        with pytest.raises(WorkspaceError, match="another prefkit process"), workspace.locked():
            pass
        os.kill(child.pid, 9)
        child.wait()
    with workspace.locked():
        pass


def test_locking_clears_what_a_kill_left(workspace):
    leftover = workspace.path / "votes.parquet.tmp-99999999"
    leftover.write_text("half")
    with workspace.locked():
        assert not leftover.exists()
